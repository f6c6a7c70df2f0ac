"""What the stream relies on inside Faust: an upgrade that changes it must fail here and not in production."""

import inspect
from typing import Any, cast

import faust
from faust.transport import consumer
from faust.transport.drivers import aiokafka as driver


def test_after_an_assignment_faust_seeks_by_the_method_that_we_override() -> None:
    assert "self.seek_to_committed()" in inspect.getsource(consumer.Consumer.perform_seek)
    assert inspect.iscoroutinefunction(driver.Consumer.seek_to_committed)
    rebalance = inspect.getsource(faust.App._on_partitions_assigned)
    assert "perform_seek" in rebalance or "on_rebalance" in rebalance


def test_the_app_makes_its_transport_by_the_method_that_we_override() -> None:
    assert "self._new_transport()" in inspect.getsource(cast("Any", faust.App.transport.fget))
    assert "self.Consumer(" in inspect.getsource(driver.Transport.create_consumer)


def test_a_seek_lets_the_offsets_be_read_again() -> None:
    assert "_read_offset[tp] = offset" in inspect.getsource(driver.AIOKafkaConsumerThread._seek_wait)


def test_what_is_taken_is_acknowledged_only_by_us() -> None:
    source = inspect.getsource(faust.Stream.noack_take)
    assert "self.enable_acks = False" in source
    assert "\n                        #     await self.ack(event)" in source


def test_the_app_makes_folders_only_by_the_method_that_we_override() -> None:
    assert "self._create_directories()" in inspect.getsource(faust.App.on_first_start)
    assert "mkdir" not in inspect.getsource(faust.App).replace(inspect.getsource(faust.App._create_directories), "")


def test_faust_fetches_by_the_method_that_ours_replaces() -> None:
    thread = driver.AIOKafkaConsumerThread
    assert "self._fetch_records" in inspect.getsource(thread.getmany)
    assert list(inspect.signature(thread._fetch_records).parameters) == [
        "self",
        "consumer",
        "active_partitions",
        "timeout",
        "max_records",
    ]
    assert "AIOKafkaConsumerThread(self, loop=self.loop, beacon=self.beacon)" in inspect.getsource(
        driver.Consumer._new_consumer_thread
    )
