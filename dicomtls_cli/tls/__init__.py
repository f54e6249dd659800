"""TLS as DICOM needs it (PS3.15 Annex B): policy, contexts, identity, handshake. Only the standard library."""
