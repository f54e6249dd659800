"""Orthanc's configuration: written, checked before Orthanc meets it, and tried out."""
