# SPDX-License-Identifier: MIT
"""Keys and signed tokens, made with openssl."""

import base64
import json
import os
import subprocess
import time


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    def __init__(self, folder, kid):
        self.kid, self.path = kid, os.path.join(folder, kid + ".pem")
        subprocess.run(["openssl", "genrsa", "-out", self.path, "2048"], check=True, capture_output=True)
        modulus = subprocess.run(["openssl", "rsa", "-in", self.path, "-modulus", "-noout"], check=True,
                                 capture_output=True, text=True).stdout.strip().split("=")[1]
        self.jwk = {"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}

    def token(self, *permissions, **claims):
        body = {"sub": "CANARY-subject", "iss": "https://issuer.test", "aud": "tenon", "exp": int(time.time()) + 600,
                "permissions": permissions, **claims}
        text = b64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": self.kid}).encode()) + "." + b64(json.dumps(body).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.path], input=text.encode(), check=True,
                                   capture_output=True).stdout
        return text + "." + b64(signature)
