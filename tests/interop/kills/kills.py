"""The broker is killed with SIGKILL and started again, many times, while clients of librdkafka write, commit offsets and run transactions.

What must hold at the end: every record that was acknowledged with acks=all is there, once and in order; every transaction is there whole or
not at all, and whole if its commit was acknowledged; committed offsets never went back.

usage: kills.py MILLSTREAM KILLS
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 3
BATCH = 10
PATIENCE = 60


class Broker:
    """`millstream broker` as a process that can be killed."""

    def __init__(self, program, data):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.log = open(os.path.join(data, "broker.log"), "ab")
        self.command = [program, "broker", "--listen", self.address, "--data", os.path.join(data, "broker")]
        self.command += ["--set", "durability=process", "--set", "group.initial.rebalance.delay.ms=0"]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=self.log)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the broker did not start")
                time.sleep(0.005)

    def kill(self):
        self.process.kill()
        self.process.wait()


def quiet(address):
    """Settings of a client that does not say of every kill that its connection is gone."""
    return {"bootstrap.servers": address, "log_level": 0}


class Work(threading.Thread):
    """A client that works until it is told to stop; what it raised is kept."""

    def __init__(self, address, stop):
        super().__init__(daemon=True)
        self.settings = {
            **quiet(address), "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20, "retry.backoff.max.ms": 200,
        }
        self.stop, self.error = stop, None

    def run(self):
        try:
            self.work()
        except Exception as error:  # reported by the main thread
            self.error = error


class Writes(Work):
    """Numbers, written in order to each partition by an idempotent producer; which of them were acknowledged."""

    def work(self):
        self.acknowledged = [[] for _ in range(PARTITIONS)]
        producer = Producer({**self.settings, "acks": "all", "enable.idempotence": True, "linger.ms": 1, "message.timeout.ms": 120_000})
        number = 0

        def delivered(error, message):
            if error is None:
                self.acknowledged[message.partition()].append(int(message.value()))

        while not self.stop.is_set():
            try:
                producer.produce("plain", str(number).encode(), partition=number % PARTITIONS, on_delivery=delivered)
                number += 1
            except BufferError:
                producer.poll(0.05)
            producer.poll(0)
            if number % 50 == 0:
                time.sleep(0.001)
        if producer.flush(PATIENCE) > 0:
            raise RuntimeError("records were neither acknowledged nor refused")


class Transactions(Work):
    """Transactions of ten records over all partitions; which of them were acknowledged as committed."""

    def open(self):
        producer = Producer({**self.settings, "transactional.id": "kills", "transaction.timeout.ms": 60_000, "linger.ms": 0})
        while True:
            try:
                producer.init_transactions(PATIENCE)
                return producer
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise

    def work(self):
        self.committed, self.begun = [], 0
        producer = self.open()
        while not self.stop.is_set():
            number, self.begun = self.begun, self.begun + 1
            try:
                producer.begin_transaction()
                for part in range(BATCH):
                    producer.produce("whole", f"{number}:{part}".encode(), partition=part % PARTITIONS)
                self.until_done(producer.commit_transaction)
                self.committed.append(number)
            except KafkaException as error:
                if error.args[0].txn_requires_abort():
                    self.until_done(producer.abort_transaction)
                else:
                    producer = self.open()

    @staticmethod
    def until_done(call):
        while True:
            try:
                return call(PATIENCE)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise


class Commits(Work):
    """A group that reads and commits; the highest offset of each partition whose commit was acknowledged."""

    def work(self):
        self.committed, self.commits, self.went_back = {}, 0, []
        consumer = Consumer({
            **self.settings, "group.id": "readers", "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 6_000,
        })
        consumer.subscribe(["plain"])
        while not self.stop.is_set():
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            if message.offset() % 20 == 0:
                try:
                    offset = TopicPartition("plain", message.partition(), message.offset() + 1)
                    for done in consumer.commit(offsets=[offset], asynchronous=False):
                        if done.error is None:
                            self.committed[done.partition] = max(done.offset, self.committed.get(done.partition, 0))
                            self.commits += 1
                except KafkaException:
                    continue  # the broker was killed under it
        consumer.close()

    def look(self, where):
        """Compares what the broker has with what was acknowledged before it was asked."""
        known = dict(self.committed)
        asking = Consumer({**self.settings, "group.id": "readers", "enable.auto.commit": False})
        for has in asking.committed([TopicPartition("plain", partition) for partition in known], timeout=PATIENCE):
            if has.offset < known[has.partition]:
                self.went_back.append(f"{where}: partition {has.partition} is at {has.offset}, {known[has.partition]} was acknowledged")
        asking.close()


def read_all(address, topic):
    """Values of each partition in order, of committed transactions only."""
    consumer = Consumer({**quiet(address), "group.id": "check", "isolation.level": "read_committed", "enable.auto.commit": False})
    values = []
    for partition in range(PARTITIONS):
        place = TopicPartition(topic, partition, 0)
        _, end = consumer.get_watermark_offsets(place, PATIENCE)
        consumer.assign([place])
        found = []
        until = time.monotonic() + PATIENCE
        while consumer.position([place])[0].offset < end:
            for message in consumer.consume(10_000, 0.2):
                if message.error() is None:
                    found.append(message.value().decode())
            if time.monotonic() > until:
                raise SystemExit(f"FAIL {topic}-{partition} could not be read to its end {end} within {PATIENCE} s")
        values.append(found)
    consumer.close()
    return values


def check(writes, transactions, commits, address):
    failures = list(commits.went_back)
    for partition, found in enumerate(read_all(address, "plain")):
        numbers = [int(value) for value in found]
        lost = set(writes.acknowledged[partition]) - set(numbers)
        if lost:
            failures.append(f"plain-{partition}: {len(lost)} acknowledged records are lost, the first {min(lost)}")
        if any(later <= earlier for earlier, later in zip(numbers, numbers[1:])):
            failures.append(f"plain-{partition}: records are doubled or out of order")
    parts = {}
    for found in read_all(address, "whole"):
        for value in found:
            number, part = value.split(":")
            parts.setdefault(int(number), []).append(int(part))
    torn = [number for number, found in parts.items() if sorted(found) != list(range(BATCH))]
    if torn:
        failures.append(f"whole: {len(torn)} transactions are torn or doubled, the first {min(torn)}")
    lost = set(transactions.committed) - set(parts)
    if lost:
        failures.append(f"whole: {len(lost)} committed transactions are lost, the first {min(lost)}")
    return failures


def main():
    program, kills = sys.argv[1], int(sys.argv[2])
    seed = int(os.environ.get("KILLS_SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    data = tempfile.mkdtemp(prefix="millstream-kills-")
    broker = Broker(program, data)
    admin = AdminClient(quiet(broker.address))
    for created in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in ("plain", "whole")]).values():
        created.result(PATIENCE)
    stop = threading.Event()
    works = [kind(broker.address, stop) for kind in (Writes, Transactions, Commits)]
    for work in works:
        work.start()
    writes, transactions, commits = works
    for kill in range(kills):
        time.sleep(rng.uniform(0.1, 1.2))
        broker.kill()
        broker.start()
        if kill % 10 == 9:
            commits.look(f"after kill {kill + 1}")
    time.sleep(1)
    stop.set()
    failures = []
    for work in works:
        work.join(2 * PATIENCE)
        if work.is_alive() or work.error:
            failures.append(f"{type(work).__name__} did not end well: {work.error or 'still at work'}")
    if not failures:
        commits.look("at the end")
        failures = check(writes, transactions, commits, broker.address)
    broker.kill()
    acknowledged = sum(map(len, getattr(writes, "acknowledged", [])))
    print(f"     | seed {seed}: {kills} kills, {acknowledged} records, {len(transactions.committed)} transactions of "
          f"{transactions.begun}, {commits.commits} commits acknowledged")
    for failure in failures:
        print(f"FAIL kills {failure}")
    if failures:
        print(f"     | data and log are kept in {data}")
    else:
        shutil.rmtree(data)
        print(f"ok   kills ({kills})")
    print(f"{0 if failures else 1} passed, {1 if failures else 0} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
