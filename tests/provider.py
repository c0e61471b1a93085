"""A small OpenID provider of this computer, and a login with it: what a lab's own would say to Streamlit."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.cookiejar import CookieJar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "milscope", "a secret of the test"
USERS = ("anna", "ben", "carl", "dora")
SECRETS = """[auth]
redirect_uri = "{address}/oauth2callback"
cookie_secret = "{cookie}"
client_id = "{client}"
client_secret = "{secret}"
server_metadata_url = "{provider}/.well-known/openid-configuration"
"""


def configured(provider: str, address: str) -> str:
    """What stands in the secrets of a Milscope at `address` whose users log in with `provider`."""
    known = {"address": address, "provider": provider, "client": CLIENT, "secret": SECRET}
    return SECRETS.format(cookie=secrets.token_hex(16), **known)


class _Provider(ThreadingHTTPServer):
    """Codes that were given out, each for one use, with what was asked and for whom."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
        self.codes: dict[str, dict[str, str]] = {}

    def metadata(self) -> dict[str, object]:
        return {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def token(self, code: str, verifier: str) -> dict[str, object] | None:
        """An id token for whom a code was given to; None where the code is no good, or asked for by another."""
        asked = self.codes.pop(code, None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        if asked is None or digest != asked["code_challenge"]:
            return None
        who, now = asked["as"], int(time.time())
        claims = {"iss": self.address, "aud": CLIENT, "sub": f"{who}-1", "email": f"{who}@lab.org"}
        claims |= {"iat": now, "exp": now + 600, "nonce": asked["nonce"], "email_verified": True}
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        return {"access_token": secrets.token_hex(8), "token_type": "Bearer", "id_token": signed}


class _Answers(BaseHTTPRequestHandler):
    server: _Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            self._say(self.server.metadata())
        elif parts.path == "/jwks":
            self._say({"keys": [self.server.key.as_dict(private=False)]})
        elif parts.path == "/authorize":
            self._authorize({name: values[0] for name, values in parse_qs(parts.query).items()})
        else:
            self._say({"error": "not_found"}, 404)

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(size).decode()).items()}
        basic = base64.b64encode(f"{CLIENT}:{urlencode({'': SECRET})[1:]}".encode()).decode()
        plain = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        known = self.headers.get("Authorization") in (f"Basic {basic}", f"Basic {plain}")
        made = self.server.token(form.get("code", ""), form.get("code_verifier", "")) if known else None
        self._say(made or {"error": "invalid_grant"}, 200 if made else 400)

    def _authorize(self, asked: dict[str, str]) -> None:
        """Asks who it is, by a link for each; who it is gets a code."""
        if asked.get("as") not in USERS:
            links = [f'<a href="?{escape(urlencode(asked | {"as": who}))}">{who}</a>' for who in USERS]
            self._send("text/html", f"<!doctype html><title>Who?</title>{' '.join(links)}".encode())
            return
        code = secrets.token_hex(16)
        self.server.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"]})
        self.send_response(302)
        self.send_header("Location", f"{asked['redirect_uri']}?{back}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _say(self, value: object, status: int = 200) -> None:
        self._send("application/json", json.dumps(value).encode(), status)

    def _send(self, kind: str, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def provider() -> Iterator[str]:
    """The address of a provider that knows USERS; it is stopped at the end."""
    server = _Provider()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def logged_in(address: str, begin: str, who: str) -> dict[str, str]:
    """The cookies of a browser that followed the path `begin`, which the page led to, and said that it is `who`."""
    jar = CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with browser.open(f"{address}{begin}", timeout=60) as asked:
        where = asked.url
    with browser.open(f"{where}&as={who}", timeout=60) as back:
        assert back.url.startswith(address), back.url
    return {cookie.name: str(cookie.value) for cookie in jar}
