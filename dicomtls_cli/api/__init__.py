"""What Python programs use (docs/api.md): the commands as functions, and contexts for programs of others.

`dicomtls_cli` hands these names out. `tls` is never left out of a call: None is plain DICOM, on purpose.
"""
