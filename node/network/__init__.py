"""Authenticated links between validators: who may talk, in what frames, within which bounds."""
