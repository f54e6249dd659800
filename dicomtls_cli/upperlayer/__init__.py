"""DICOM upper layer protocol (PS3.8): associations and P-DATA; no TLS, no printing."""
