"""What a URL knows and nobody must see."""

from __future__ import annotations

import pytest

from mfsynth.storage.credentials import redacted, without_credentials
from mfsynth.storage.errors import StoreError, StoreRefusedError, translated


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:se/cret@bucket/run", "s3://bucket/run"),
        ("ftp://me:pw@host/run and http://a@b/c", "ftp://host/run and http://b/c"),
        ("https://user:pa@ssw0rd@host:9/a@b/run", "https://host:9/a@b/run"),
        ("s3://key:se/c@ret@bucket/run", "s3://bucket/run"),
        ("https://host/run?sig=1&x=2", "https://host/run"),
        ("/home/me@work/run", "/home/me@work/run"),
        ("in.s3://key:secret@bucket/run", "in.s3://bucket/run"),
        ("abfs://box@host/run?sig=1", "abfs://box@host/run"),
        *[(f"{at}?sv=1&sig=2", at) for at in ("s3://b/what?/run", "gs://b/what?", "memory://r")],
        ("s3://b/run?a/b&sig=1 and https://host/run?sig", "s3://b/run and https://host/run"),
        ("in-s3://b/run?sig and (s3://b/run?x=1", "in-s3://b/run and (s3://b/run"),
        *[
            (f"{at}my  file 1?sv=1&sig=2 is gone", f"{at}my  file 1 is gone")
            for at in ("s3://b/", "a://")
        ],
        ("is s3://b/a b gone? yes", "is s3://b/a b gone? yes"),
    ],
)
def test_users_passwords_and_queries_are_cut_out_of_urls(text, shown):
    assert without_credentials(text) == shown


@pytest.mark.parametrize(
    "url", ["s3://b/run?", "gs://b/what?/run", "memory://?/??", "s3a://b/a?b/c=1", "abfs://c/?/r"]
)
def test_a_question_mark_in_the_name_of_an_object_is_shown(url):
    assert without_credentials(url) == url
    assert without_credentials(f"{url} of {url}") == f"{url} of {url}"


def test_secrets_of_the_url_and_of_the_environment_are_struck_out_alone(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "se/cret")
    url = "failing://user:pass%20word@host/bucket?token=abracadabra&n=1"
    text = "denied: user, pass word, pass%20word, abracadabra and se/cret; 1 attempt"
    assert redacted(text, url) == "denied: ***, ***, ***, *** and ***; 1 attempt"


def test_the_signature_of_a_url_with_raw_spaces_is_struck_out():
    url = "https://host/my data/a.yaml?sv=1&sig=abracadabra"
    assert redacted(f"{url} (abracadabra)", url) == "https://host/my data/a.yaml (***)"


def test_the_keys_in_a_connection_string_are_secrets_of_their_own(monkeypatch):
    text = "AccountName=me;AccountKey=abc/d+e==;BlobEndpoint=http://host/me"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    url = "abfs://box/run"
    assert redacted(f"refused: {text}", url) == "refused: ***"
    assert redacted("refused: abc/d+e==", url) == "refused: ***"


def test_a_password_is_struck_out_whether_or_not_the_path_has_an_at_sign():
    url = "s3://key:s/e@bucket/a@b"
    assert without_credentials(url) == "s3://b"
    assert redacted("key and s/e are refused", url) == "*** and *** are refused"


def test_a_store_that_no_credentials_are_known_for_says_where_to_give_them():
    class NoCredentialsError(Exception):
        """As botocore's."""

    said = r"can't read s3://b/a: .*; give .*AWS_PROFILE"
    with (
        pytest.raises(StoreError, match=said) as caught,
        translated("s3://b", "read", "a", is_local=False),
    ):
        raise NoCredentialsError("Unable to locate credentials")
    assert not isinstance(caught.value, StoreRefusedError)
