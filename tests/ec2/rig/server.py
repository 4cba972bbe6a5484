"""The rig's front: every request comes in here, is logged, meets its fault, and goes to who answers it.

    request → read_call → fault before? → control | ebs_direct | moto (with the rig's grafts) → fault after? → reply
"""

import html
import json
import re
import socket
import time
import traceback

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import run_wsgi_app

from . import ebs_direct
from .calls import Call, CallLog, Reply, error_code, read_call
from .control import Control
from .faults import Fault
from .state import rig

HANG = 3600
# What an action made, in its answer, and how EC2 says that there is no such thing.
MADE = {
    "RunInstances": "instanceId",
    "CreateImage": "imageId",
    "CopyImage": "imageId",
    "RegisterImage": "imageId",
    "CreateSnapshot": "snapshotId",
    "CopySnapshot": "snapshotId",
    "CreateVolume": "volumeId",
    "CreateSecurityGroup": "groupId",
    "CreateKeyPair": "keyName",
    "ImportKeyPair": "keyName",
}
# Errors that EC2 answers with 500, so that SDKs try again; moto has one status for all.
SERVER_ERRORS = ("InsufficientInstanceCapacity", "InternalError")
NOT_FOUND = {
    "i": "InvalidInstanceID.NotFound",
    "ami": "InvalidAMIID.NotFound",
    "snap": "InvalidSnapshot.NotFound",
    "vol": "InvalidVolume.NotFound",
    "sg": "InvalidGroup.NotFound",
}


class Server:
    """The WSGI application."""

    def __init__(self, reset):
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._control = Control(self, reset)
        self.log = CallLog()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith("/_rig"):
            reply = self._control.answer(environ)
        else:
            reply = self._answer(read_call(environ))
        if reply is None:
            _hang_up(environ)
            reply = Reply(500, [], b"")
        reply.headers = [each for each in reply.headers if each[0].lower() != "content-length"]
        reply.headers.append(("Content-Length", str(len(reply.body))))
        start_response(f"{reply.status} {'OK' if reply.status < 400 else 'Error'}", reply.headers)
        return [reply.body]

    def _answer(self, call: Call) -> Reply | None:
        """The answer, or nothing: the connection breaks."""
        entry = self.log.begin(call)
        fault = rig().faults.answer(call)
        if fault:
            entry["fault"] = fault.kind
            before = self._before(call, fault)
            if before != "go on":
                entry["outcome"] = error_code(before) if before else "no answer"
                return before
        unseen = rig().faults.hidden_parameter(call)
        if unseen:
            entry["fault"] = "not-found"
            reply = _not_found(call, unseen)
        else:
            with rig().faults.during(call, entry):
                reply = self._carry_out(call)
        if fault:
            reply = self._after(call, fault, reply)
        entry["outcome"] = (error_code(reply) or "ok") if reply else "done, no answer"
        return reply

    def _before(self, call: Call, fault: Fault) -> "Reply | None | str":
        match fault.kind:
            case "throttle" if call.service == "ebs":
                return error(call, fault.status or 400, fault.code or "RequestThrottledException", "Rate exceeded")
            case "throttle":
                return error(call, fault.status or 503, fault.code or "RequestLimitExceeded", "Request limit exceeded.")
            case "error":
                return self._error(call, fault)
            case "lost-request":
                return None
            case "delay":
                time.sleep(fault.seconds or 1)
            case "hang":
                time.sleep(fault.seconds or HANG)
                return None
        return "go on"

    def _after(self, call: Call, fault: Fault, reply: Reply) -> Reply | None:
        match fault.kind:
            case "error-after":
                return self._error(call, fault)
            case "lost-reply":
                return None
            case "not-found" if reply.status < 400:
                made = rb"\"SnapshotId\": ?\"([^\"]+)" if call.service == "ebs" else rb"<%s>([^<]+)<" % MADE[call.action].encode()
                rig().faults.hide(re.search(made, reply.body)[1].decode(), fault.describes)
        return reply

    def _error(self, call, fault):
        code = fault.code or ("InternalServerException" if call.service == "ebs" else "InternalError")
        return error(call, fault.status or (500 if not fault.code else 400), code, fault.message or "injected by the rig")

    def _carry_out(self, call: Call) -> Reply:
        if call.service == "ebs":
            return ebs_direct.answer(call)
        call.environ["wsgi.input"] = _Body(call.body)
        try:
            with rig().lock:
                body, status, headers = run_wsgi_app(self._moto, call.environ, buffered=True)
        except NotImplementedError as unknown:
            # As moto's 500 it would be tried again and again.
            return error(call, 400, "InvalidAction", f"the rig cannot do {call.action}: {unknown}")
        except Exception as bug:  # noqa: BLE001 - moto's own, or the rig's: the caller shall see which
            traceback.print_exc()
            return error(call, 500, "InternalError", f"the rig failed: {type(bug).__name__}: {html.escape(str(bug))}")
        reply = Reply(int(status.split()[0]), list(headers), b"".join(body))
        if error_code(reply) in SERVER_ERRORS:
            reply.status = 500
        return reply


class _Body:
    """A request's body that may be read again from the start by each layer of moto."""

    def __init__(self, content: bytes):
        self._content, self._at = content, 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._content) if size is None or size < 0 else self._at + size
        piece, self._at = self._content[self._at : end], min(end, len(self._content))
        return piece


def error(call: Call, status: int, code: str, message: str, reason: str | None = None) -> Reply:
    """An error in the words of the call's protocol."""
    if call.service in ("", "ec2", "iam", "sts"):
        errors = f"<Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        if call.service in ("iam", "sts"):
            errors = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        name = "ErrorResponse" if call.service in ("iam", "sts") else "Response"
        body = f"<?xml version='1.0'?><{name}>{errors}<RequestID>rig</RequestID></{name}>"
        return Reply(status, [("Content-Type", "text/xml")], body.encode())
    body = {"__type": code, "Message": message, "message": message}
    if reason:
        body["Reason"] = reason
    headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", code)]
    return Reply(status, headers, json.dumps(body).encode())


def _not_found(call, identifier):
    text = f"'{identifier}' does not exist"
    if call.service == "ebs":
        return error(call, 404, "ResourceNotFoundException", text, reason="SNAPSHOT_NOT_FOUND")
    return error(call, 400, NOT_FOUND.get(identifier.split("-")[0], "InvalidKeyPair.NotFound"), text)


def _hang_up(environ):
    """Breaks the connection so that the client sees an end without an answer."""
    connection = environ["werkzeug.socket"]
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body of an answer are written one after the other, and Nagle would keep the second back for 40 ms.
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_request(self, *_):
        pass

    def log_error(self, *_):
        pass

    def connection_dropped(self, *_):
        pass


def serve(application: Server, port: int):
    """Listens; the caller runs `serve_forever`."""
    return make_server("127.0.0.1", port, application, threaded=True, request_handler=_Handler)
