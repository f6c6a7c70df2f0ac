import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


async def test_every_test_gets_an_empty_database(database_dsn: str) -> None:
    connection = await asyncpg.connect(database_dsn)
    await connection.execute("CREATE TABLE here (id int)")
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1
    assert "test_" in str(await connection.fetchval("SELECT current_database()"))
    await connection.close()


async def test_what_is_produced_is_consumed(kafka: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}round-trip"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        await producer.send_and_wait(topic, b"value", key=b"key")
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        record = await consumer.getone()
    assert (record.key, record.value) == (b"key", b"value")
