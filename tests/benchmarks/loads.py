"""What is sent: generated CT images, the same for every tool."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

from dicomtls_cli.services.files.images import write_test_images

MB = 1 << 20


@dataclass(frozen=True)
class Load:
    """A folder of images; `part` holds a fraction of them, for the tools that would take minutes."""

    name: str
    folder: Path
    count: int
    size: int
    part: Path
    part_count: int

    @property
    def scale(self) -> float:
        return self.count / self.part_count


def make_load(root: Path, name: str, count: int, size: int, part_count: int) -> Load:
    """Write `count` images of about `size` bytes under `root`."""
    folder, part = root / name, root / f"{name}-part"
    folder.mkdir(parents=True)
    part.mkdir()
    template = pydicom.dcmread(write_test_images(root, 1)[0])
    columns = 512
    rows = max((size - 1024) // (2 * columns), 1)
    frames = max(rows // 512, 1)
    template.Rows, template.Columns = rows // frames, columns
    if frames > 1:
        template.NumberOfFrames = frames
    template.PixelData = os.urandom(2 * columns) * (template.Rows * frames)
    for number in range(count):
        template.SOPInstanceUID = generate_uid(prefix=None)
        template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID
        path = folder / f"{number:05d}.dcm"
        template.save_as(path)
        if number < part_count:
            os.link(path, part / path.name)
    return Load(name, folder, count, size, part, part_count)
