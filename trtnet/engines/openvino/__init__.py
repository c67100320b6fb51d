"""OpenVINO as a way to run the engines of the torch backend on a CPU, where it is installed."""
