"""What a URL knows and nobody must see."""

from __future__ import annotations

import pytest

from mfsynth.storage.credentials import redacted, without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:se/cret@bucket/run", "s3://bucket/run"),
        ("ftp://me:pw@host/run and http://a@b/c", "ftp://host/run and http://b/c"),
        ("https://host/run?sig=1&x=2", "https://host/run"),
        ("/home/me@work/run", "/home/me@work/run"),
    ],
)
def test_users_passwords_and_queries_are_cut_out_of_urls(text, shown):
    assert without_credentials(text) == shown


def test_secrets_of_the_url_and_of_the_environment_are_struck_out_alone(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "se/cret")
    url = "failing://user:pass%20word@host/bucket?token=abracadabra&n=1"
    text = "denied: user, pass word, pass%20word, abracadabra and se/cret; 1 attempt"
    assert redacted(text, url) == "denied: ***, ***, ***, *** and ***; 1 attempt"
