from __future__ import annotations

from mfsynth.storage.digests import sha256_of_bytes, sha256_of_file


def test_a_file_has_the_digest_of_its_bytes(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # The example of FIPS 180-4.
    assert sha256_of_bytes(b"abc").startswith("ba7816bf8f01cfea414140de5dae2223")
    assert sha256_of_file(path) == sha256_of_bytes(b"abc")
