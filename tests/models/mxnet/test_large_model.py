"""A network as large as arcface_r100_v1 is converted in memory that its size bounds."""

import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from tests.models.mxnet import families

_CONVERT = """
import sys
from pathlib import Path
from service.models.mxnet.conversion import convert_folder
convert_folder(Path(sys.argv[1]), Path(sys.argv[2]))
status = Path("/proc/self/status").read_text()  # getrusage would count the process that started this one
print(1024 * int(status.split("VmHWM:")[1].split()[0]))
"""


@pytest.mark.long
def test_a_file_of_250_megabytes_is_converted_in_three_times_its_size_of_memory(tmp_path: Path) -> None:
    network, outputs = families.arcface(families.UNITS["r100"])
    source = network.save(tmp_path / "arcface_r100_v1", outputs)
    size_bytes = (source / "model-0000.params").stat().st_size
    assert size_bytes > 245_000_000
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, source, tmp_path / "out"], capture_output=True, text=True, check=True
    )
    peak_bytes = int(done.stdout)
    print(f"{size_bytes / 1e6:.0f} MB: peak {peak_bytes / 1e6:.0f} MB")
    assert peak_bytes < 3 * size_bytes
    session = onnxruntime.InferenceSession(tmp_path / "out" / "arcface_r100_v1" / "model.onnx")
    assert session.get_outputs()[0].shape == ["batch", 512]
