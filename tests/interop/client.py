"""The rate limit service as grpcio (gRPC's C core) sees it. TARGET is host:port, TIMED_OUT what the server itself says of a call
whose time is over; the last line counts the cases.

Messages are written by hand: no generated code, no protobuf package.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import grpc

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
OK, OVER_LIMIT = 1, 2


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def request(*users, domain=b"interop"):
    message = field(1, domain)
    for user in users:
        message += field(2, field(1, field(1, b"user") + field(2, user.encode())))
    return message


def overall(response):
    # The first field of every answer: a varint below 128.
    assert response[0] == 0x08, response[:8]
    return response[1]


passed = 0


def case(name, condition):
    global passed
    assert condition, name
    passed += 1
    print("passed:", name)


def code_of(call, *args, **kwargs):
    try:
        call(*args, timeout=kwargs.pop("timeout", 10), **kwargs)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


with grpc.insecure_channel(os.environ["TARGET"]) as channel:
    ask = channel.unary_unary(METHOD)
    answer, call = ask.with_call(request("alice"), timeout=10)
    case("allowed", overall(answer) == OK)
    case("status and no message", call.code() == grpc.StatusCode.OK and not call.details())
    case("denied", overall(ask(request("over"), timeout=10)) == OVER_LIMIT)
    case("a decision that takes a while", overall(ask(request("later-50"), timeout=10)) == OK)
    many = request(*(f"user-{at}" for at in range(1000)))
    case("a large answer", len(ask(many, timeout=10)) > 30_000)
    case(
        "an error with its words",
        code_of(ask, request("alice", domain=b""))
        == (grpc.StatusCode.INVALID_ARGUMENT, "domain: must not be empty"),
    )
    case("a message too large", code_of(ask, request("x" * 100_000))[0] == grpc.StatusCode.OUT_OF_RANGE)
    case(
        "compression",
        code_of(ask, request("x" * 1000), compression=grpc.Compression.Gzip)[0] == grpc.StatusCode.UNIMPLEMENTED,
    )
    # Client and server both watch the time, and on a busy machine the server can be first.
    late = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode[os.environ["TIMED_OUT"]]}
    case("a time", code_of(ask, request("never"), timeout=0.1)[0] in late)
    other = channel.unary_unary("/envoy.service.ratelimit.v3.RateLimitService/Other")
    case("an unknown method", code_of(other, b"")[0] == grpc.StatusCode.UNIMPLEMENTED)
    waiting = ask.future(request("never"), timeout=10)
    waiting.cancel()
    case("after a cancelled call", overall(ask(request("alice"), timeout=10)) == OK)
    with ThreadPoolExecutor(16) as pool:
        users = ["later-20" if at % 3 == 0 else "alice" for at in range(300)]
        answers = list(pool.map(lambda user: overall(ask(request(user), timeout=10)), users))
    case("many at once", answers == [OK] * 300)

print(passed, "cases passed")
