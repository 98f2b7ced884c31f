#!/usr/bin/env python3
"""@NAME@: an external antibody of SKOS Edge. Needs Python 3 and nothing else.

It connects to the local broker as the user "@NAME@" with its token, beats every five seconds, raises and clears alerts, and
answers commands. What the broker takes is described in src/antibodies/EXTERNAL.md of SKOS Edge. Fill in watch().

    (umask 077; skos token add @NAME@ --role antibody >@NAME@.token)
    SKOS_TOKEN_FILE=@NAME@.token ./@NAME@.py
    skos antibody check @NAME@

Environment: SKOS_TOKEN_FILE (@NAME@.token), NODE_NAME (host name), SKOS_MQTT (127.0.0.1:1883), SKOS_PREFIX (skos).
"""
import datetime
import json
import os
import select
import socket
import struct
import sys
import time

NAME = "@NAME@"
BEAT_SECONDS = 5
WATCH_SECONDS = 1
# An alert that stands is said again: what was said while the agent was away was heard by nobody.
REPEAT_SECONDS = 30


def watch():
    """Looks once. Returns what is wrong now: {id: (severity, message, details)}; nothing wrong is {}.

    id is your own name for it (a-z, 0-9, "_", "-"); severity is "warning", "critical" or "emergency"; details may hold sensor,
    value, threshold and unit. An id that is no longer returned is over. Raise an exception when you cannot look: what stands
    then stands on, because a missing reading is not a recovery.
    """
    return {}


# ---- MQTT 3.1.1, as much as is needed --------------------------------------------------------------------------------


def text(value):
    raw = value.encode()
    return struct.pack("!H", len(raw)) + raw


def packet(kind, body):
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


class Broker:
    def __init__(self, address, user, token):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.received = b""
        self.number = 0
        self.sent = time.monotonic()
        # User name, password, clean session; a keep-alive of 30 s.
        flags = b"\xc2\x00\x1e"
        self.send(0x10, text("MQTT") + b"\x04" + flags + text(user) + text(user) + text(token))
        kind, body = self.wait(5)
        if kind != 0x20 or body[1] != 0:
            raise ConnectionError(f"the broker refused the connection (code {body[1] if len(body) > 1 else '?'})")

    def send(self, kind, body):
        self.socket.sendall(packet(kind, body))
        self.sent = time.monotonic()

    def publish(self, topic, payload):
        self.number = self.number % 65535 + 1
        body = text(topic) + struct.pack("!H", self.number) + json.dumps(payload).encode()
        self.send(0x32, body)  # QoS 1

    def subscribe(self, topic):
        self.send(0x82, b"\x00\x01" + text(topic) + b"\x00")

    def wait(self, seconds):
        """The next packet as (kind, body); (None, b"") when none came in time."""
        until = time.monotonic() + seconds
        while True:
            whole = self.take()
            if whole is not None:
                return whole
            left = until - time.monotonic()
            if left <= 0:
                return None, b""
            if select.select([self.socket], [], [], left)[0]:
                chunk = self.socket.recv(65536)
                if not chunk:
                    raise ConnectionError("the broker closed the connection: the log of skos-net says why")
                self.received += chunk

    def take(self):
        size, shift = 0, 0
        for at, byte in enumerate(self.received[1:5], start=1):
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                end = at + 1 + size
                if len(self.received) < end:
                    return None
                whole = self.received[0] & 0xF0, self.received[at + 1 : end]
                self.received = self.received[end:]
                return whole
        return None

    def command(self, seconds):
        """The next message for us as an object; None when none came in time."""
        kind, body = self.wait(seconds)
        if time.monotonic() - self.sent > 15:
            self.send(0xC0, b"")  # A ping, within the keep-alive.
        if kind != 0x30:
            return None
        (length,) = struct.unpack("!H", body[:2])
        return json.loads(body[2 + length :])


# ---- The antibody ----------------------------------------------------------------------------------------------------


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Antibody:
    def __init__(self):
        self.node = os.environ.get("NODE_NAME") or socket.gethostname().split(".")[0].lower()
        self.prefix = os.environ.get("SKOS_PREFIX", "skos")
        self.type = NAME.replace("-", "_")
        self.standing = {}
        self.seen = []

    def topic(self, kind, *rest):
        return "/".join([self.prefix, kind, self.node, *rest])

    def words(self, **more):
        return {"v": 1, "agent_id": f"{NAME}-{self.node}", "timestamp": now(), **more}

    def beat(self, broker, answers=None):
        more = {} if answers is None else {"answers": answers}
        metadata = {"standing": len(self.standing)}
        broker.publish(self.topic("heartbeat"), self.words(agent_type=self.type, metadata=metadata, **more))

    def alert(self, broker, name, severity, message, details):
        words = self.words(id=name, type=self.type, severity=severity, message=message, details=details)
        broker.publish(self.topic("alert"), words)

    def look(self, broker, repeat):
        try:
            wrong = watch()
        except Exception as error:  # Whatever it is: what stands, stands on.
            print(f"{NAME}: cannot look: {error}", file=sys.stderr)
            return
        for name, (severity, message, details) in wrong.items():
            if repeat or self.standing.get(name) != (severity, message):
                self.alert(broker, name, severity, message, details)
        for name in self.standing.keys() - wrong.keys():
            self.alert(broker, name, None, f"{name} is over", {})
        self.standing = {name: (severity, message) for name, (severity, message, _) in wrong.items()}

    def obey(self, broker, command):
        if command["nonce"] in self.seen:
            return  # MQTT delivers at least once.
        self.seen = [*self.seen, command["nonce"]][-64:]
        if command["action_type"] == "check":
            self.alert(broker, "check", "warning", "asked to raise an alert", {})
            self.alert(broker, "check", None, "asked to clear it again", {})
        self.beat(broker, answers=command["action_id"])

    def serve(self, broker):
        broker.subscribe(self.topic("command", self.type))
        next_beat = next_look = next_repeat = 0
        while True:
            time_now = time.monotonic()
            if time_now >= next_beat:
                self.beat(broker)
                next_beat = time_now + BEAT_SECONDS
            if time_now >= next_look:
                self.look(broker, repeat=time_now >= next_repeat)
                next_look = time_now + WATCH_SECONDS
                if time_now >= next_repeat:
                    next_repeat = time_now + REPEAT_SECONDS
            command = broker.command(max(0.0, min(next_beat, next_look) - time.monotonic()))
            if command is not None:
                self.obey(broker, command)


def main():
    with open(os.environ.get("SKOS_TOKEN_FILE", f"{NAME}.token"), encoding="ascii") as file:
        token = file.read().strip()
    address = os.environ.get("SKOS_MQTT", "127.0.0.1:1883")
    antibody = Antibody()
    pause = 1
    while True:
        began = time.monotonic()
        try:
            antibody.serve(Broker(address, NAME, token))
        except (OSError, ValueError, KeyError) as error:
            print(f"{NAME}: {error}; trying again", file=sys.stderr)
        pause = 1 if time.monotonic() - began > 60 else min(30, 2 * pause)
        time.sleep(pause)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
