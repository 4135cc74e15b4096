"""Content credentials in exported pictures, read back by c2pa's own reader."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import c2pa
import numpy as np
import pytest
import tiny_run
from certificates import SIGNER, Credentials, write_credentials
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from metric_run import metric_sample

from mfsynth.cli import main
from mfsynth.datasets.exports.exporting import STATE
from mfsynth.shards import codecs
from mfsynth.shards.commits import commit
from mfsynth.shards.marks import source_type
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def credentials(tmp_path):
    return write_credentials(tmp_path, ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def export(capsys):
    def called(*arguments) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["export", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "PRIVATE KEY" not in out + err
        return ended.value.code, out + err

    return called


@pytest.fixture
def run(tmp_path):
    """A pair that a model made, a photograph with depth, and another model's image with depth."""
    kinds = [("joint", DIGITAL_SOURCE_TYPE), ("i2d", ""), ("i2d", DIGITAL_SOURCE_TYPE)]
    made = [
        replace(metric_sample(number), mode=mode, digital_source_type=kind)
        for number, (mode, kind) in enumerate(kinds)
    ]
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, tiny_run.make_manifest())
    rejects = [tiny_run.make_reject(i) for i in range(len(made), tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [*made, *rejects]))
    return store.url


def manifest_of(path):
    """The active manifest of a file and the state of its validation; None without."""
    media = {".jpg": "image/jpeg", ".png": "image/png"}[path.suffix]
    reader = c2pa.Reader.try_create(media, io.BytesIO(path.read_bytes()))
    if reader is None:
        return None
    with reader:
        found = json.loads(reader.json())
        return found["manifests"][found["active_manifest"]], reader.get_validation_state()


@pytest.mark.parametrize(("name", "image"), [("scannet", "color/*.jpg"), ("tum", "rgb/*.png")])
def test_pictures_that_a_model_made_are_signed_and_photographs_are_not(
    tmp_path, run, credentials, export, name, image
):
    out = tmp_path / "out"
    plain = tmp_path / "plain"
    assert export(run, "--format", name, "--out", out, *credentials.options)[0] == 0
    assert export(run, "--format", name, "--out", plain)[0] == 0
    images, depths = sorted(out.rglob(image)), sorted(out.rglob("depth/*.png"))
    made, *given = map(manifest_of, images)
    assert given == [None, None]
    for found in [made, *map(manifest_of, depths)]:
        manifest, state = found
        # Nobody knows its issuer; all else is as it must be.
        assert state == "Valid"
        assert manifest["signature_info"]["issuer"] == SIGNER
        assert manifest["claim_generator_info"][0]["name"] == "mfsynth"
        [actions] = manifest["assertions"]
        [action] = actions["data"]["actions"]
        assert action["action"] == "c2pa.created"
        assert action["digitalSourceType"] == DIGITAL_SOURCE_TYPE
    for path in depths:
        assert source_type(path.read_bytes()) == DIGITAL_SOURCE_TYPE
        before = (plain / path.relative_to(out)).read_bytes()
        assert np.array_equal(codecs.decode_codes(path.read_bytes()), codecs.decode_codes(before))
        assert len(path.read_bytes()) - len(before) < 5_000


def test_the_same_command_finds_all_there_and_no_key_is_kept(tmp_path, run, credentials, export):
    command = (run, "--format", "scannet", "--out", tmp_path / "out", *credentials.options)
    export(*command)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    assert "(all were there)" in export(*command)[1]
    assert all(path.read_bytes() == data for path, data in before.items())
    assert "has an export of another C2PA certificate, or none" in export(*command[:5])[1]
    job = json.loads((tmp_path / "out" / STATE / "job.json").read_text())
    assert len(job["c2pa"]) == 64
    secret = "".join(credentials.key.read_text().splitlines()[1:-1])
    stored = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(secret[:40].encode() in data for data in stored)


def test_what_can_not_sign_is_one_line_before_anything_is_written(
    tmp_path, run, credentials, export
):
    aimless, other = tmp_path / "aimless", tmp_path / "other"
    for folder in (aimless, other):
        folder.mkdir()
    blunt = write_credentials(aimless, ec.generate_private_key(ec.SECP256R1()), purpose=False)
    strange = write_credentials(other, rsa.generate_private_key(65537, 2048))
    for certificate, key, told in (
        (blunt.certificate, blunt.key, "can't sign with it and its key"),
        (credentials.certificate, strange.key, "can't sign with it and its key"),
        (credentials.certificate, credentials.certificate, "can't sign with it and its key"),
        (tmp_path / "none.pem", credentials.key, "none.pem: No such file"),
    ):
        options = Credentials(certificate, key).options
        code, said = export(run, "--format", "bop", "--out", tmp_path / "out", *options)
        assert code == 1, certificate
        assert told in said
        assert said.count("\n") == 1
    code, said = export(run, "--format", "parquet", "--out", tmp_path / "out", *credentials.options)
    assert (code, said.count("\n")) == (1, 1)
    assert "pictures of parquet lie inside of other files" in said
    assert not (tmp_path / "out").exists()
    code, said = export(run, "--format", "bop", "--out", tmp_path / "out", *credentials.options[:2])
    assert code == 2
    assert "--c2pa-certificate and --c2pa-key go together" in said
