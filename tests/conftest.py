"""Shared fixtures; nothing here or below may reach for the network."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else gcsfs asks for each bucket's kind by a protocol that no emulator has.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
# Ray's workers are at a niceness of 15: beside other processes tests of them would wait for ever.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
# Processes that tests start find what tests share, too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent / "support"), *filter(None, [os.environ.get("PYTHONPATH")])]
)

import pytest
from hypothesis import settings
from required import require

if TYPE_CHECKING:
    from azure_server import AzureServer
    from gcs_server import GcsServer
    from hub_server import HubServer
    from s3_server import S3Server

    from mfsynth.storage.store import ObjectStore

# The same examples in every run; `--hypothesis-profile default` looks for new ones.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

# Under nohup, programs that tests start would be deaf to the end of their terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

DATA = Path(__file__).parent / "data"
# Each test of these, where its file names Ray or a cluster, has all cores with the processes that
# Ray starts.
WITH_RAY = {
    *("docs", "pipelines", "runs", "soak"),
    *("test_others_readers.py", "test_ray_train.py", "test_processes.py"),
}
NAMES_RAY = re.compile(r"\b(ray|cluster)\b", re.IGNORECASE)
# Of which each test takes long and shares little.
ONE_BY_ONE = {"test_crash_matrix.py"}


@functools.cache
def names_ray(path: Path) -> bool:
    """Whether a file of tests names Ray."""
    return NAMES_RAY.search(path.read_text(encoding="utf-8")) is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which tests go to the same process, where several share them: a file's, and all with Ray."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            parts = {*path.split("/")}
            if WITH_RAY & parts and names_ray(config.rootpath / path):
                return "with Ray"
            return nodeid if ONE_BY_ONE & parts else path

    return ByFile(config, log)


@pytest.fixture
def dynamo() -> None:
    """Nothing compiled so far, and nothing counted."""
    import torch

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs as with inductor, which takes a minute to compile them."""
    import torch

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the numeric vectors that the model must match."""
    return DATA / "reference"


@pytest.fixture(scope="session")
def opengl() -> None:
    """Of tests that render: the error says what to install."""
    from mfsynth.errors import MfsynthError
    from mfsynth.simulation.gl import gl_context

    try:
        gl_context()
    except MfsynthError as error:
        require(str(error))


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete pipeline of a few thousand random weights that makes 32×32 pairs."""
    import torch
    from diffusers import AutoencoderKLFlux2

    from mfsynth.models.pipeline import ModalityForcingPipeline
    from mfsynth.models.transformer import ModalityForcingTransformer2DModel
    from mfsynth.training.config import TransformerConfig
    from mfsynth.training.small_text_encoder import (
        build_text_encoder,
        build_tokenizer,
        text_encoder_layers,
    )

    torch.manual_seed(0)
    text = TransformerConfig(
        patch=8,
        rgb_bands=(4, 2),
        layers=1,
        single_layers=1,
        depth_decoder_layers=1,
        heads=2,
        head_dim=16,
        rope_axes=(4, 4, 4, 4),
        rope_theta=100,
        text_length=12,
        text_layers=1,
        text_channels=16,
    )
    tokenizer = build_tokenizer(["a red cube and a blue ball on a table"])
    pipeline = ModalityForcingPipeline(
        transformer=ModalityForcingTransformer2DModel(
            in_channels=8,
            depth_channels=64,
            num_layers=1,
            num_single_layers=1,
            num_depth_decoder_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            timestep_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
        ),
        text_encoder=build_text_encoder(text, len(tokenizer)),
        tokenizer=tokenizer,
        vae=AutoencoderKLFlux2(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8),
            layers_per_block=1,
            latent_channels=2,
            norm_num_groups=8,
            sample_size=32,
        ),
        text_encoder_layers=text_encoder_layers(text),
        max_text_length=text.text_length,
        depth_mean=1.0,
        depth_std=0.4,
        height=32,
        width=32,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A tiny random model\n")
    return folder


@pytest.fixture(scope="session")
def _made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_run

    folder = tmp_path_factory.mktemp("runs") / "run"
    tiny_run.make_run(str(folder))
    return folder


@pytest.fixture
def run_store(_made_run: Path, tmp_path: Path) -> ObjectStore:
    """A local run of three committed shards, which a test may change."""
    from mfsynth.storage.store import ObjectStore

    # Its files are as old as the test.
    shutil.copytree(_made_run, tmp_path / "run", copy_function=shutil.copyfile)
    return ObjectStore.open(tmp_path / "run")


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Address of a small Ray cluster: to join one is faster than to start one a test."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
    from ray.cluster_utils import Cluster

    from mfsynth.config import RuntimeConfig
    from mfsynth.runs.cluster import RayCluster

    # A process in which Ray was first started after this cluster can't start actors there.
    RayCluster(RuntimeConfig(workers=1)).disconnect()
    node = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    started = Cluster(initialize_head=True, head_node_args=node)
    yield started.address
    started.shutdown()


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    from s3_server import S3Server

    with S3Server() as server:
        yield server


@pytest.fixture
def s3(_s3_server, monkeypatch) -> S3Server:
    """A real S3 endpoint on loopback, which the environment names."""
    _set(_s3_server.environment, monkeypatch)
    return _s3_server


@pytest.fixture(scope="session")
def _azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    from azure_server import AzureServer, lacking

    require(lacking())
    with AzureServer(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture
def azure(_azure_server, monkeypatch) -> Iterator[AzureServer]:
    """An endpoint of Azure's blobs on loopback, which the environment names."""
    yield from _named_by_the_environment(_azure_server, "abfs", monkeypatch)


@pytest.fixture(scope="session")
def _gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    from gcs_server import GcsServer, lacking

    require(lacking())
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def gcs(_gcs_server, monkeypatch) -> Iterator[GcsServer]:
    """An endpoint of Google's cloud storage on loopback, which the environment names."""
    yield from _named_by_the_environment(_gcs_server, "gs", monkeypatch)


@pytest.fixture
def hub(monkeypatch) -> Iterator[HubServer]:
    """A hub on loopback, which the Hugging Face's client takes for theirs."""
    import huggingface_hub.constants
    from hub_server import TOKEN, HubServer

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with HubServer() as server:
        # Read from the environment when the client was imported.
        files = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        # Its newer protocol is a service of its own, in Rust.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        yield server


CLOUDS = ("s3", "azure", "gcs")


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Any:
    """Each kind of object store: it makes and removes buckets, and begins uploads."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["local", "file", "memory", *CLOUDS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty place in each kind of store that there is."""
    match request.param:
        case "local":
            return str(tmp_path)
        case "file":
            return f"file://{tmp_path}"
        case "memory":
            return f"memory://{uuid.uuid4().hex}"
    bucket: str = request.getfixturevalue(request.param).new_bucket()
    return bucket


def _named_by_the_environment(
    server: Any, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    import fsspec

    _set(server.environment, monkeypatch)
    # Connections of other tests, which had another environment.
    fsspec.get_filesystem_class(protocol).clear_instance_cache()
    yield server
    fsspec.get_filesystem_class(protocol).clear_instance_cache()


def _set(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
