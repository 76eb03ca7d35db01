"""The local Messages API server, through the real SDK."""

import asyncio
import gc
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, APIStatusError, AsyncAnthropic

from execgraph.adapters.messages_api import Answer, Body, MessagesServer, call, text
from execgraph.tests.models import MODEL

TOOLS: list[Any] = [
    {
        "name": "weather",
        "description": "The weather of a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]


def brain(body: dict[str, Any]) -> Answer:
    """Asks for the weather of each city in the task, then says what it got."""
    last = body["messages"][-1]["content"]
    if isinstance(last, str):
        if not body.get("tools"):
            return Answer([text(f"You said: {last}")])
        cities = last.split()
        return Answer([text("Let me look."), *(call("weather", {"city": it}) for it in cities)])
    return Answer([text("; ".join(block["content"] for block in last))])


def ask(client: Anthropic, **more: Any) -> Any:
    """A reply as Any: what its content blocks are is what the tests are about."""
    messages: list[Any] = [{"role": "user", "content": "hello there"}]
    return client.messages.create(
        **{"model": MODEL, "max_tokens": 100, "messages": messages, **more}
    )


def results_for(reply: Any) -> list[Any]:
    return [
        {"type": "tool_result", "tool_use_id": it.id, "content": f"{it.input['city']}: rain"}
        for it in reply.content
        if it.type == "tool_use"
    ]


@pytest.fixture
def server() -> Iterator[MessagesServer]:
    with MessagesServer(brain, keep_bodies=True) as running:
        yield running


@pytest.fixture
def client(server: MessagesServer) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key="local") as made:
        yield made


def test_a_message_has_what_the_service_sends(server: MessagesServer, client: Anthropic) -> None:
    reply = ask(client, system="Be brief.")

    assert [it.text for it in reply.content] == ["You said: hello there"]
    assert (reply.role, reply.model, reply.stop_reason) == ("assistant", MODEL, "end_turn")
    assert reply.id.startswith("msg_01")
    assert reply._request_id.startswith("req_01")
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert server.requests == 1
    assert server.bodies[0]["system"] == "Be brief."


def test_parallel_tool_calls_and_their_results_make_a_conversation(
    server: MessagesServer, client: Anthropic
) -> None:
    task = {"role": "user", "content": "Oslo Rome"}
    reply = ask(client, tools=TOOLS, messages=[task])
    calls = [it for it in reply.content if it.type == "tool_use"]
    assert reply.stop_reason == "tool_use"
    assert [(it.name, it.input) for it in calls] == [
        ("weather", {"city": "Oslo"}),
        ("weather", {"city": "Rome"}),
    ]
    assert len({it.id for it in calls}) == 2

    said = {"role": "assistant", "content": reply.content}
    found = {"role": "user", "content": results_for(reply)}
    ending = ask(client, tools=TOOLS, messages=[task, said, found])

    assert ending.content[0].text == "Oslo: rain; Rome: rain"
    assert server.requests == 2


def test_ids_are_new_on_every_call_and_tokens_are_not(client: Anthropic) -> None:
    task = [{"role": "user", "content": "Oslo"}]
    first, second = (ask(client, tools=TOOLS, messages=task) for _ in range(2))

    assert first.id != second.id
    assert first._request_id != second._request_id
    assert first.content[1].id != second.content[1].id
    assert first.usage == second.usage


def test_an_answer_may_say_what_it_is_billed() -> None:
    with MessagesServer(lambda _: Answer([text("Rain.")], usage=(1234, 5))) as server:
        reply = ask(Anthropic(base_url=server.url, api_key="local"))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (1234, 5)
    assert server.counts.tokens == 1239


def test_longer_conversations_cost_more_and_the_server_adds_them_up(
    server: MessagesServer, client: Anthropic
) -> None:
    short, long = ask(client), ask(client, system="Be brief. " * 100)

    assert long.usage.input_tokens - short.usage.input_tokens == 251
    counts = server.counts
    assert counts.input_tokens == short.usage.input_tokens + long.usage.input_tokens
    assert counts.tokens == counts.input_tokens + 2 * short.usage.output_tokens


def test_a_stream_adds_up_to_the_message(client: Anthropic) -> None:
    task: list[Any] = [{"role": "user", "content": "Oslo " + "Rome " * 20}]
    whole = ask(client, tools=TOOLS, messages=task)
    with client.messages.stream(model=MODEL, max_tokens=100, tools=TOOLS, messages=task) as stream:
        kinds = [event.type for event in stream]
        streamed: Any = stream.get_final_message()

    assert [it.model_dump(exclude={"id"}) for it in streamed.content] == [
        it.model_dump(exclude={"id"}) for it in whole.content
    ]
    assert streamed.stop_reason == "tool_use"
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_thinking_is_streamed_and_signed_anew() -> None:
    def thinker(_: dict[str, Any]) -> Answer:
        return Answer([{"type": "thinking", "thinking": "Hm. " * 20}, text("Yes.")])

    with (
        MessagesServer(thinker) as server,
        Anthropic(base_url=server.url, api_key="local") as client,
    ):
        whole = ask(client)
        with client.messages.stream(
            model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "?"}]
        ) as stream:
            streamed: Any = stream.get_final_message()

    assert streamed.content[0].thinking == whole.content[0].thinking == "Hm. " * 20
    assert streamed.content[0].signature
    assert streamed.content[0].signature != whole.content[0].signature


async def test_async_calls_run_at_the_same_time(server: MessagesServer) -> None:
    server.latency = 0.5
    loop = asyncio.get_running_loop()
    async with AsyncAnthropic(base_url=server.url, api_key="local") as client:
        begun = loop.time()
        messages: list[Any] = [{"role": "user", "content": "hello"}]
        replies = await asyncio.gather(
            *(
                client.messages.create(model=MODEL, max_tokens=100, messages=messages)
                for _ in range(8)
            )
        )
        took = loop.time() - begun

    assert len({it.id for it in replies}) == server.requests == 8
    assert 0.5 <= took < 8 * 0.5


async def test_async_streams(server: MessagesServer) -> None:
    async with (
        AsyncAnthropic(base_url=server.url, api_key="local") as client,
        client.messages.stream(
            model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "hello"}]
        ) as stream,
    ):
        assert "".join([part async for part in stream.text_stream]) == "You said: hello"


@pytest.mark.parametrize("status", [429, 529])
def test_a_busy_service_is_asked_again(
    server: MessagesServer, client: Anthropic, status: int
) -> None:
    server.fail(status, times=2)

    assert ask(client).stop_reason == "end_turn"

    counts = server.counts
    assert (counts.requests, counts.failed) == (3, 2)


def test_a_service_that_stays_busy_is_an_error_of_the_sdk(
    server: MessagesServer, client: Anthropic
) -> None:
    server.fail(529, times=3)

    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(client)

    assert caught.value.status_code == 529
    body: Any = caught.value.body
    assert body["error"]["type"] == "overloaded_error"
    assert caught.value.response.headers["retry-after"] == "0.01"
    assert ask(client).stop_reason == "end_turn"


def test_count_tokens_agrees_with_what_is_billed(server: MessagesServer, client: Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "hello there"}]
    counted = client.messages.count_tokens(model=MODEL, messages=messages, system="Be brief.")

    assert counted.input_tokens == ask(client, system="Be brief.").usage.input_tokens
    assert (server.counts.token_counts, server.requests) == (1, 1)


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [([], "without `tool_result`"), (["toolu_other"], "unexpected `tool_use_id`")],
)
def test_results_that_do_not_match_the_calls_are_refused(
    client: Anthropic, answers: list[str], complaint: str
) -> None:
    said = [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}]
    results = [
        {"type": "tool_result", "tool_use_id": it, "content": "rain"}
        for it in (answers and ["toolu_1", *answers])
    ]
    with pytest.raises(anthropic.BadRequestError, match=complaint):
        ask(
            client,
            tools=TOOLS,
            messages=[
                {"role": "user", "content": "Oslo"},
                {"role": "assistant", "content": said},
                {"role": "user", "content": results or "and?"},
            ],
        )


def test_a_request_without_messages_is_refused(server: MessagesServer, client: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="at least one message"):
        ask(client, messages=[])
    assert server.counts.failed == 1


def test_unknown_paths_are_not_found(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="/v1/models"):
        client.models.list()


def test_an_exception_in_the_brain_reaches_the_client_at_once() -> None:
    def broken(body: dict[str, Any]) -> Answer:
        return Answer([text(body["missing"])])

    with (
        MessagesServer(broken) as server,
        Anthropic(base_url=server.url, api_key="local") as client,
    ):
        with pytest.raises(anthropic.InternalServerError, match="KeyError\\('missing'\\)"):
            ask(client)
        assert server.requests == 1


def test_it_stops_while_a_call_is_under_way_and_leaves_no_thread_or_socket() -> None:
    with MessagesServer(brain, latency=30) as server:
        client = Anthropic(base_url=server.url, api_key="local", max_retries=0, timeout=10)
        failures: list[Exception] = []

        def call_it() -> None:
            try:
                ask(client)
            except anthropic.APIError as error:
                failures.append(error)

        caller = threading.Thread(target=call_it)
        caller.start()
        while server.requests == 0:
            time.sleep(0.01)
    caller.join()
    client.close()
    gc.collect()  # a leaked socket would warn here, and warnings are errors

    assert len(failures) == 1
    assert "messages-api" not in {it.name for it in threading.enumerate()}
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.url


def test_it_can_be_started_again(server: MessagesServer) -> None:
    with pytest.raises(RuntimeError, match="running already"), server:
        pass
    again = MessagesServer(brain)
    for _ in range(2):
        with again, Anthropic(base_url=again.url, api_key="local") as client:
            ask(client)
    assert again.requests == 2


def test_estimates_do_not_depend_on_made_up_ids(server: MessagesServer, client: Anthropic) -> None:
    task = {"role": "user", "content": "Oslo"}
    costs = set()
    for _ in range(3):
        reply = ask(client, tools=TOOLS, messages=[task])
        said = {"role": "assistant", "content": reply.content}
        found = {"role": "user", "content": results_for(reply)}
        costs.add(ask(client, tools=TOOLS, messages=[task, said, found]).usage.input_tokens)
    assert len(costs) == 1
    assert json.dumps(server.bodies[-1])


def test_a_thread_is_continued_from_its_last_reply() -> None:
    def brain(body: Body) -> Answer:
        said = [message["role"] for message in body["messages"]]
        return Answer([text(f"{len(said)} {body.get('system')}")])

    with MessagesServer(brain) as server, Anthropic(base_url=server.url, api_key="x") as client:
        thread = client.beta.messages.thread(model=MODEL, max_tokens=10, system="Be brief.")
        said = []
        for words in ("one", "two", "three"):
            thread.append({"role": "user", "content": words})
            said.append(_words(thread.send()))
        assert said == ["1 Be brief.", "3 Be brief.", "5 Be brief."]
        server.threads.forget()
        thread.append({"role": "user", "content": "four"})
        assert _words(thread.send()) == "7 Be brief.", "the SDK tells all of it anew"
        assert (server.requests, server.counts.failed) == (5, 1)


@pytest.mark.parametrize(
    ("thread", "error", "code"),
    [
        ({"type": "continue", "previous_message_id": "msg_1"}, 404, "thread_not_found"),
        ({"type": "what"}, 400, None),
        ("create", 400, None),
    ],
)
def test_a_thread_that_is_not_held_is_refused(thread: Any, error: int, code: str | None) -> None:
    with (
        MessagesServer(lambda _: Answer([text("hi")])) as server,
        Anthropic(base_url=server.url, api_key="x") as client,
        pytest.raises(APIStatusError) as raised,
    ):
        client.beta.messages.create(
            model=MODEL,
            max_tokens=10,
            messages=[{"role": "user", "content": "hi"}],
            extra_body={"thread": thread},
        )
    assert raised.value.status_code == error
    body: Any = raised.value.body
    assert body["error"].get("details", {}).get("error_code") == code


def _words(message: Any) -> str:
    said: str = message.content[0].text
    return said
