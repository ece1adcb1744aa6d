"""What a robot's controller needs: it reads bundles with numpy and onnxruntime alone."""
