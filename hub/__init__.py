"""The gateway: every request passes here. Read ``hub/pipeline.py`` first."""
