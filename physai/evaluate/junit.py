"""A report as JUnit XML, which CI servers show: a test case for each rule, and one for each episode that failed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

Document = Mapping[str, Any]
NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")  # XML 1.0, section 2.2


def junit(documents: Sequence[Document], broken: Mapping[str, str]) -> str:
    """Returns the XML of some reports, a test suite for each; `broken` says why other policies have none."""
    suites = [_suite(document) for document in documents]
    suites += [_broken(source, error) for source, error in broken.items()]
    root = ElementTree.Element("testsuites", {"name": "physai eval", **_counts(suites)})
    root.extend(suites)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(document: Document) -> ElementTree.Element:
    seconds = f"{document['timing']['wall_s']:.3f}"
    suite = ElementTree.Element("testsuite", name=document["task"], time=seconds)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(document).items():
        ElementTree.SubElement(properties, "property", name=name, value=_text(value))
    for check in document["checks"]:
        found = "no episode has it" if check["value"] is None else f"{check['value']:.6g}"
        case = _case(suite, document, check["rule"])
        if not check["passed"]:
            _child(case, "failure", f"{check['rule']} is not met: {found}", "below")
    if document["comparison"] is not None:
        sentence = document["comparison"]["sentence"]
        case = _case(suite, document, f"not worse than {document['comparison']['baseline']}")
        if document["comparison"]["verdict"] == "worse":
            _child(case, "failure", sentence, "worse")
        ElementTree.SubElement(case, "system-out").text = _text(sentence)
    if not document["checks"] and document["comparison"] is None:
        _case(suite, document, f"{document['planned']} episodes are played")
    for failed in document["failed"]:
        where = "" if failed["at"] is None else f" at {failed['at']}"
        _child(_case(suite, document, f"episode {failed['seed']}{where}"), "error", failed["error"], "failed")
    suite.attrib.update(_counts([suite]))
    return suite


def _broken(source: str, error: str) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=_text(source), time="0")
    case = ElementTree.SubElement(suite, "testcase", classname="physai eval", name=_text(source), time="0")
    _child(case, "error", error, "failed")
    suite.attrib.update(_counts([suite]))
    return suite


def _properties(document: Document) -> dict[str, Any]:
    rate, returns = document["success"]["rate"], document["return"]
    return {
        "policy": document["source"],
        "sha256": document["policy"].get("sha256", ""),
        "episodes": document["episodes"],
        "success": "" if rate is None else f"{rate:.6g}",
        "return": "" if returns is None else f"{returns['mean']:.6g}",
        "command": document["command"],
    }


def _case(suite: ElementTree.Element, document: Document, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_text(document["task"]), name=_text(name), time="0")


def _child(case: ElementTree.Element, kind: str, message: str, type_: str) -> None:
    ElementTree.SubElement(case, kind, message=_text(message), type=type_).text = _text(message)


def _counts(suites: Sequence[ElementTree.Element]) -> dict[str, str]:
    found = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}
    return {name: str(sum(len(suite.findall(path)) for suite in suites)) for name, path in found.items()}


def _text(value: Any) -> str:
    return NOT_XML.sub("?", str(value))
