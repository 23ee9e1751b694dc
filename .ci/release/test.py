#!/usr/bin/env python3
"""Tests of the scripts that a release runs. They need helm and kubectl in PATH, and what .ci/run needs."""

import contextlib
import http.server
import io
import json
import os
import pathlib
import subprocess
import tarfile
import tempfile
import threading
import unittest

HERE = pathlib.Path(__file__).resolve().parent
DIGEST = "sha256:" + "0123456789abcdef" * 4


class Registry(http.server.BaseHTTPRequestHandler):
    """Answers with what the test has said: a status, headers and a body for each request."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        status, headers, body = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value.replace("HOST", self.headers["Host"]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def registry(*answers):
    server = http.server.HTTPServer(("127.0.0.1", 0), Registry)
    server.answers, server.asked = list(answers), []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def published(address, **variables):
    environment = {**os.environ, "REGISTRY_PLAIN_HTTP": "1", "no_proxy": "127.0.0.1", **variables}
    command = [HERE / "published", f"{address}/team/operator:1.0.0"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def address(server):
    return f"127.0.0.1:{server.server_port}"


def errors(code):
    return json.dumps({"errors": [{"code": code, "message": "…"}]}, ensure_ascii=True)


class Published(unittest.TestCase):
    def test_a_tag_that_is_there_is_a_yes(self):
        with registry((200, {"Docker-Content-Digest": DIGEST}, "{}")) as server:
            said = published(address(server))
        self.assertEqual((said.returncode, said.stdout), (0, DIGEST + "\n"))

    def test_not_found_is_the_only_no(self):
        for code in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN"):
            with registry((404, {}, errors(code))) as server:
                said = published(address(server))
            self.assertEqual((said.returncode, said.stdout, said.stderr), (0, "", ""))

    def test_anything_else_fails(self):
        answers = [
            (401, {}, errors("UNAUTHORIZED")),
            (403, {}, errors("DENIED")),
            (404, {}, "<html>404</html>"),
            (404, {}, errors("DENIED")),
            (429, {}, errors("TOOMANYREQUESTS")),
            (500, {}, errors("MANIFEST_UNKNOWN")),
            (503, {}, ""),
            (200, {}, "{}"),
        ]
        for answer in answers:
            with registry(answer) as server:
                said = published(address(server))
            self.assertNotEqual(said.returncode, 0, answer)
            self.assertEqual(said.stdout, "", answer)
            self.assertIn("published: ", said.stderr)
            self.assertNotIn("Traceback", said.stderr)

    def test_no_answer_fails(self):
        with registry() as server:
            nobody = address(server)
        self.assertNotEqual(published(nobody).returncode, 0)

    def test_it_logs_in_where_that_is_asked_for(self):
        challenge = 'Bearer realm="http://HOST/token",service="here",scope="repository:team/operator:pull"'
        ask = (401, {"WWW-Authenticate": challenge}, errors("UNAUTHORIZED"))
        with registry(ask, (200, {}, '{"token": "t"}'), (404, {}, errors("NAME_UNKNOWN"))) as server:
            said = published(address(server), REGISTRY_USER="u", REGISTRY_PASSWORD="p")
            asked = server.asked
        self.assertEqual((said.returncode, said.stdout), (0, ""))
        self.assertEqual([login for _, login in asked], [None, "Basic dTpw", "Bearer t"])
        with registry(ask, (403, {}, errors("DENIED"))) as server:
            self.assertNotEqual(published(address(server)).returncode, 0)


class Files(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def run_script(self, name, *arguments):
        command = [HERE / name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_a_fork_names_its_own_images(self):
        said = self.run_script("chart", "registry.example.com/fork/operator", self.directory)
        self.assertEqual(said.returncode, 0, said.stderr)
        (archive,) = self.directory.glob("*.tgz")
        with tarfile.open(archive) as chart:
            values = chart.extractfile("whatsapp-operator/values.yaml").read().decode()
            about = chart.extractfile("whatsapp-operator/Chart.yaml").read().decode()
        self.assertIn("registry: registry.example.com\n", values)
        self.assertIn("image: registry.example.com/fork/operator:", about)
        self.assertNotIn("ghcr.io", values)

    def test_the_manifests_have_the_image_by_digest_and_each_platform_its_program(self):
        roots = self.directory / "roots"
        for platform in ("amd64", "arm64"):
            notices = roots / platform / "usr/share/doc/whatsapp-operator"
            notices.mkdir(parents=True)
            for name in ("LICENSE", "THIRD-PARTY-LICENSES.txt"):
                (notices / name).write_text(name)
            program = roots / platform / "whatsapp-operator"
            program.write_text(f"the program for {platform}")
            program.chmod(0o755)
        files = self.directory / "files"
        files.mkdir()
        version = next(
            line.removeprefix("version: ").strip()
            for line in (HERE.parents[1] / "charts/whatsapp-operator/Chart.yaml").read_text().splitlines()
            if line.startswith("version: ")
        )
        arguments = ("ghcr.io/fork/operator", version, DIGEST, roots, files)
        said = self.run_script("files", *arguments)
        self.assertEqual(said.returncode, 0, said.stderr)
        install = (files / "install.yaml").read_text()
        self.assertIn(f"image: ghcr.io/fork/operator:{version}@{DIGEST}\n", install)
        self.assertIn("kind: CustomResourceDefinition", install)
        first = {}
        for platform in ("amd64", "arm64"):
            archive = files / f"whatsapp-operator_{version}_linux_{platform}.tar.gz"
            first[archive] = archive.read_bytes()
            with tarfile.open(fileobj=io.BytesIO(first[archive])) as tar:
                self.assertEqual(sorted(tar.getnames()), ["LICENSE", "THIRD-PARTY-LICENSES.txt", "whatsapp-operator"])
                self.assertEqual(tar.extractfile("whatsapp-operator").read().decode(), f"the program for {platform}")
                self.assertEqual(tar.getmember("whatsapp-operator").mode, 0o755)
        self.run_script("files", *arguments)
        for archive, content in first.items():
            self.assertEqual(archive.read_bytes(), content, "the same bytes again")
        self.assertNotEqual(self.run_script("files", "ghcr.io/a/b", "9.9.9", DIGEST, roots, files).returncode, 0)


if __name__ == "__main__":
    unittest.main()
