"""Requests of HTTP/1.1 as bytes, with what is to be answered to each."""

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
HELLO_HEAD = b"Content-Length: 5\r\n\r\nhello"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n"
LAST = b"0\r\n\r\n"
SOCKET = b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"


def head(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request of these lines, with a Host."""
    return b"\r\n".join((start, b"Host: a", *lines, b"", b""))


def post(length: bytes, body: bytes = b"hello") -> bytes:
    return POST + b"Content-Length: " + length + b"\r\n\r\n" + body


def coded(coding: bytes, more: bytes = b"Content-Length: 5\r\n", body: bytes = b"hello") -> bytes:
    return POST + coding + b"\r\n" + more + b"\r\n" + body


# 400, and the connection ends
REFUSED: dict[str, bytes] = {
    # the request line
    "CR alone at the end of a line": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    "LF alone after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "LF alone after a header": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "LF alone everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces before the target": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces before the version": b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab in the request line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /pa th HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment in the target": b"GET /path#frag HTTP/1.1\r\nHost: a\r\n\r\n",
    "a backslash in the target": b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL in the target": b"GET /\0test HTTP/1.1\r\nHost: a\r\n\r\n",
    "UTF-8 in the target": b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "overlong UTF-8 in the target": b"GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n",
    "an asterisk with GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target with an empty host": b"GET http://[]@ HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target without a host": b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target with a login": b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target with a port of letters": b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target with a broken bracket": b"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target of another scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is no path": b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a version without its minor": b"GET / HTTP/1\r\nHost: a\r\n\r\n",
    "a version with leading zeros": b"GET / HTTP/01.01\r\nHost: a\r\n\r\n",
    "a version with a space": b"GET / HTTP/ 1.1\r\nHost: a\r\n\r\n",
    "a version in lower case": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "a version and something": b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
    "another protocol": b"GET / ICE/1.0\r\nHost: a\r\n\r\n",
    "a version with a comma": b"GET / HTTP/1,1\r\nHost: a\r\n\r\n",
    "a version without a minor of its own": b"GET / HTTP/3\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "two spaces and no target": b"GET  HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space behind the version": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a space before the method": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "LF alone before the request line": b"\n" + GET,
    "LF alone behind a blank line": b"\r\n\n" + GET,
    "CR in the target": b"GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab in the target": b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
    "DEL in the target": b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment behind the query": b"GET /?a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "an asterisk with POST": b"POST * HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "an authority with GET": b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target with a port beyond all": b"GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target and no host": b"GET http://a/ HTTP/1.1\r\n\r\n",
    "an absolute target and a host that is none": b"GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a line of spaces": b"   \r\n\r\n",
    "bytes": b"\x80\x01\x02\xff\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a method with a bracket": b"G[T / HTTP/1.1\r\nHost: a\r\n\r\n",
    # headers
    "a folded header": head(b"X: value", b" continued"),
    "a header folded by a tab": head(b"X: value", b"\tcontinued"),
    "a space before a colon": head(b"X : value"),
    "a tab before a colon": head(b"X\t: value"),
    "a header without a name": head(b": value"),
    "a header without a colon": head(b"X"),
    "a bracket in a name": head(b"X[: value"),
    "a space in a name": head(b"X Y: value"),
    "UTF-8 in a name": head(b"X-T\xc3\xabst: value"),
    "a tab in a name": POST + b"Content-Length: 11\r\nContent\tLength: 99\r\n\r\nhello world",
    "a second length with a space": POST + b"Content-Length: 11\r\nContent-Length : 5\r\n\r\nhello world",
    "spaces before the headers": b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n",
    "a header that begins with a space": b"GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n",
    "CR alone in a value": head(b"X: a\rb"),
    "a NUL in a value": head(b"X: a\0b"),
    "a NUL in a name": head(b"X\0: a"),
    "quotes around a name": head(b'"X": a'),
    "parentheses in a name": head(b"X(): a"),
    "DEL in a value": head(b"X: a\x7fb"),
    "controls in a value": head(b"X: a\x07\x08\x0bb"),
    # the host
    "no host": b"GET / HTTP/1.1\r\nX: a\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "the same host twice": b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    "an empty host": b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
    "a host with a login": b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/path\r\n\r\n",
    "a host with a space": b"GET / HTTP/1.1\r\nHost: a b/c\r\n\r\n",
    "two hosts in a list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "a host with a port of letters": b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
    "a host with a port beyond all": b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
    "a host with two ports": b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
    "a port and no host": b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
    "a host of an open bracket": b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "a host of brackets around a name": b"GET / HTTP/1.1\r\nHost: [a]\r\n\r\n",
    "a host with a bad escape": b"GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n",
    "a host of IPv6 with a zone": b"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n",
    "a host of IPv6 without brackets": b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n",
    "a host with a port below all": b"GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n",
    "a host with a query": b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n",
    "two hosts with HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "a host in UTF-8": b"GET / HTTP/1.1\r\nHost: b\xc3\xbccher.example\r\n\r\n",
    "a host with HTTP/1.0 that is none": b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
    # lengths
    **{
        f"a length of {text!r}": post(text)
        for text in (
            *(
                b"",
                b"abc",
                b"+5",
                b"-5",
                b"-1",
                b"-0",
                b"5, 10",
                b"5,5",
                b"0x5",
                b"0o5",
                b"5_0",
                b"1_0",
                b"1 0",
                b"5.0",
            ),
            *(b"99999999999999999999", b"5\x0b", b"\xd9\xa5", b"5;a", b"5x"),
        )
    },
    "a length with a sign and no body wanted": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 10\r\n\r\nhelloworld",
    "two lengths with a request between": POST
    + b"Content-Length: 4\r\nContent-Length: %d\r\n\r\nPING" % (4 + len(GET))
    + GET,
    # codings
    **{
        f"the coding {line!r} beside a length": coded(line)
        for line in (
            *(b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked ", b"Transfer-Encoding : chunked"),
            *(b"Transfer-Encoding: ", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: \x0cchunked"),
            *(b"Transfer-Encoding: chunked\0", b"Transfer-Encoding: identity", b"Transfer-Encoding:\r\n chunked"),
            *(b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked;ext=val", b"Transfer-Encoding: Chunked"),
            *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chunked,"),
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        )
    },
    "an empty coding": coded(b"Transfer-Encoding: ", b""),
    "a coding that is not the last": coded(b"Transfer-Encoding: chunked, gzip", b"", LAST),
    "chunked before identity": coded(b"Transfer-Encoding: chunked, identity", b"", LAST),
    "chunked with a parameter": coded(b"Transfer-Encoding: chunked;q=1", b"", LAST),
    "a folded coding": coded(b"Transfer-Encoding:\r\n\tchunked", b"", LAST),
    "a coding with HTTP/1.0 that is kept": b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + LAST,
    "chunked twice": coded(b"Transfer-Encoding: chunked, chunked", b"", LAST),
    "chunked on two lines": coded(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"", LAST),
    "chunked in quotes": coded(b'Transfer-Encoding: "chunked"', b"", LAST),
    "a coding with HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "a length, chunks and a request": POST
    + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % (5 + len(GET))
    + LAST
    + GET,
    "chunks, a length and a request": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
    + b"%x\r\n" % len(GET)
    + GET
    + b"\r\n"
    + LAST,
    "OPTIONS with a folded coding": b"OPTIONS / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n"
    b"Content-Length: 5\r\n\r\nhello",
    # chunks
    **{
        f"a chunk of {line!r}": CHUNKED + line + b"\r\nhello\r\n" + LAST
        for line in (
            *(b"5;", b"5;bad[=x", b"1_0", b"0x5", b"+5", b"-1", b"5 ", b" 5", b"5\t", b"", b"g", b"5;\0ext", b"5;a\rX"),
            *(
                b"5;a=",
                b'5;a="b',
                b"5;a b",
                b"5 ;a",
                b"FFFFFFFFFFFFFFFF0",
                b"FFFFFFFFFFFFFFFFF",
                b"0" * 20 + b"5",
                b"5;a\nb",
            ),
        )
    },
    "a chunk's size that ends with CR": CHUNKED + b"5\rhello\r\n" + LAST,
    "a chunk's size that ends with LF": CHUNKED + b"5\nhello\r\n" + LAST,
    "a chunk that ends with LF": CHUNKED + b"5\r\nhello\n" + LAST,
    "a chunk without its end": CHUNKED + b"5\r\nhello0\r\n\r\n",
    "a chunk that is longer than it says": CHUNKED + b"5\r\nhello!!\r\n" + LAST,
    "a trailer that ends with LF": CHUNKED + HELLO + b"0\r\nX: a\n\r\n",
    "a section of trailers that ends with LF": CHUNKED + HELLO + b"0\r\n\n",
    "a folded trailer": CHUNKED + HELLO + b"0\r\nX: a\r\n b\r\n\r\n",
    "a trailer without a colon": CHUNKED + HELLO + b"0\r\nX\r\n\r\n",
    "a line end in the quotes of an extension": CHUNKED + b'5;a="\r\n"\r\nhello\r\n' + LAST,
    "a trailer with CR alone": CHUNKED + HELLO + b"0\r\nX: a\rb\r\n\r\n",
    "a trailer with a NUL": CHUNKED + HELLO + b"0\r\nX: \0\r\n\r\n",
    "a trailer without a name": CHUNKED + HELLO + b"0\r\n: a\r\n\r\n",
    "a trailer with a space before its colon": CHUNKED + HELLO + b"0\r\nX : a\r\n\r\n",
    "a long extension": CHUNKED + b"5;a=" + b"b" * 2_000 + b"\r\nhello\r\n" + LAST,
    "a long trailer": CHUNKED + HELLO + b"0\r\nX: " + b"b" * 9_000 + b"\r\n\r\n",
    "tiny chunks without end": CHUNKED + b"1\r\na\r\n" * 6_000,
    "endless trailers": CHUNKED + HELLO + b"0\r\n" + b"X: b\r\n" * 2_000 + b"\r\n",
    "a size with a sign and a byte behind": CHUNKED + b"+0\r\n\r\nX" + GET,
}

# other refusals, and the connection ends
ENDED: dict[str, tuple[bytes, int]] = {
    "a long target": (b"GET /" + b"a" * 8_190 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a target without an end": (b"GET /" + b"a" * 10_000, 414),
    "a long query": (b"GET /?" + b"a" * 8_190 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a long header": (head(b"X: " + b"a" * 9_000), 431),
    "a long name": (head(b"X" * 9_000 + b": a"), 431),
    "a header without an end": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000, 431),
    "many headers": (head(*(b"X-%d: a" % n for n in range(200))), 431),
    "much of headers": (head(*(b"X-%d: " % n + b"a" * 5_000 for n in range(10))), 431),
    "an unknown coding": (coded(b"Transfer-Encoding: gzip", b"", b""), 501),
    "an unknown coding before chunks": (coded(b"Transfer-Encoding: gzip, chunked", b"", LAST), 501),
    "a coding that looks like one": (coded(b"Transfer-Encoding: xchunked", b"", b""), 501),
    "a coding that is gone": (coded(b"Transfer-Encoding: identity", b"", b""), 501),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    "CONNECT to nowhere": (b"CONNECT [ HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    "CONNECT with a path": (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "an unknown method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "a method in lower case": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "a long method": (b"A" * 39 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "HTTP/9.9": (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/2.0 without its preface": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "an unknown expectation": (POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", 417),
    "an unknown expectation beside a known one": (POST + b"Expect: 100-continue, x\r\n" + HELLO_HEAD, 417),
    "a length beyond every bound": (post(b"9223372036854775808", b""), 413),
    "a close on a second line": (head(b"Connection: keep-alive", b"Connection: close"), 200),
    "a close behind keep-alive": (head(b"Connection: keep-alive, close"), 200),
    "a body with HTTP/1.0": (b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", 200),
    "HTTP/0.9 by its number": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "a body that will not come": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n", 200),
    "a close": (head(b"Connection: close"), 200),
    "a close among other options": (head(b"Connection: foo, Close"), 200),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 with an upgrade": (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\n" + SOCKET + b"\r\n", 200),
    "HTTP/1.0 that expects": (
        b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        200,
    ),
}

# statuses, the last body, and the connection goes on
SERVED: dict[str, tuple[bytes, tuple[int, ...], bytes | None]] = {
    "a request": (GET, (200,), b"page"),
    "blank lines before": (b"\r\n\r\n" + GET, (200,), b"page"),
    "a blank line between": (GET + b"\r\n" + GET, (200, 200), b"page"),
    "many at once": (GET * 20, (200,) * 20, b"page"),
    "OPTIONS of the server": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", (204,), b""),
    "OPTIONS of a path": (b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", (204,), b""),
    "an absolute target": (b"GET http://b:80/ HTTP/1.1\r\nHost: a\r\n\r\n", (200,), b"page"),
    "an absolute target without a path": (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", (200,), b"page"),
    "an absolute target with a query alone": (b"GET HTTP://a?b=1 HTTP/1.1\r\nHost: a\r\n\r\n", (400,), None),
    "a host with a port": (b"GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", (200,), b"page"),
    "a host of IPv6": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", (200,), b"page"),
    "a host with an empty port": (b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", (200,), b"page"),
    "a host with an underscore": (b"GET / HTTP/1.1\r\nHost: my_service\r\n\r\n", (200,), b"page"),
    "no space after a colon": (b"GET / HTTP/1.1\r\nHost:a\r\nX:b\r\n\r\n", (200,), b"page"),
    "an empty header": (head(b"X:", b"Y: "), (200,), b"page"),
    "bytes beyond ASCII in a value": (head(b"X: \xff\xfe"), (200,), b"page"),
    "a method that the path does not take": (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", (405,), None),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", (405,), None),
    "OPTIONS of an absolute target": (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", (204,), b""),
    "a path of two slashes": (b"GET //b/ HTTP/1.1\r\nHost: a\r\n\r\n", (404,), None),
    "spaces around a host": (b"GET / HTTP/1.1\r\nHost:  a \r\n\r\n", (200,), b"page"),
    "an option that names the host": (head(b"Connection: Host"), (200,), b"page"),
    "an option that names the length": (POST + b"Connection: Content-Length\r\n" + HELLO_HEAD, (200,), b"hello"),
    "an option that names the coding": (
        coded(b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", b"", HELLO + LAST),
        (200,),
        b"hello",
    ),
    "codings for the answer": (head(b"TE: chunked, trailers;q=0.5"), (200,), b"page"),
    "a range": (head(b"Range: bytes=0-1", b'If-Range: "x"'), (200,), b"page"),
    "an expectation without a body": (head(b"Expect: 100-continue"), (200,), b"page"),
    "an empty expectation": (POST + b"Expect:\r\n" + HELLO_HEAD, (200,), b"hello"),
    "an upgrade to HTTP/2 with a body": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + HELLO_HEAD + GET,
        (200, 200),
        b"page",
    ),
    "a body with HTTP/1.0 that is kept": (
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello" + GET,
        (200, 200),
        b"page",
    ),
    "the last chunk with an extension": (CHUNKED + HELLO + b"0;a=b\r\n\r\n" + GET, (200, 200), b"page"),
    "a body": (post(b"5"), (200,), b"hello"),
    "a length with zeros before": (post(b"0005"), (200,), b"hello"),
    "a length with spaces around": (POST + b"Content-Length:  5 \r\n\r\nhello", (200,), b"hello"),
    "a length of nothing": (post(b"0", b""), (200,), b""),
    "no length": (POST + b"\r\n", (200,), b""),
    "a body that looks like a request": (post(b"%d" % len(GET), GET) + GET, (200, 200), b"page"),
    "a range with POST": (POST + b"Range: bytes=0-1\r\nContent-Length: 5\r\n\r\nhello", (200,), b"hello"),
    "a chunk": (CHUNKED + HELLO + LAST, (200,), b"hello"),
    "chunks": (CHUNKED + HELLO + b"6\r\n world\r\n" + LAST, (200,), b"hello world"),
    "no chunk": (CHUNKED + LAST, (200,), b""),
    "the end of chunks with zeros": (CHUNKED + HELLO + b"000\r\n\r\n" + GET, (200, 200), b"page"),
    "a chunk in upper case": (CHUNKED + b"A\r\nhelloworld\r\n" + LAST, (200,), b"helloworld"),
    "a chunk with extensions": (CHUNKED + b'5;ext=value;a;b="c\\"d"\r\nhello\r\n' + LAST, (200,), b"hello"),
    "chunks with a trailer": (CHUNKED + HELLO + b"0\r\nX-Checksum: abc\r\n\r\n", (200,), b"hello"),
    "trailers that would frame or let in": (
        CHUNKED + HELLO + b"0\r\nContent-Length: 50\r\nHost: b\r\nHost: c\r\nTransfer-Encoding: gzip\r\n\r\n" + GET,
        (200, 200),
        b"page",
    ),
    "chunked in upper case": (coded(b"Transfer-Encoding: CHUNKED", b"", HELLO + LAST), (200,), b"hello"),
    "chunks and then a request": (CHUNKED + HELLO + LAST + GET, (200, 200), b"page"),
    "a chunk that looks like a request": (CHUNKED + b"%x\r\n" % len(GET) + GET + b"\r\n" + LAST, (200,), GET),
    "a length by another name": (POST + b"Content_Length: 5\r\n\r\n" + GET, (200, 200), b"page"),
    "a coding by another name": (
        POST + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        (200,),
        b"hello",
    ),
    "an upgrade": (head(b"Connection: Upgrade") + GET, (200, 200), b"page"),
    "an upgrade to a socket": (head(b"Connection: Upgrade", SOCKET[:-2]) + GET, (200, 200), b"page"),
    "an upgrade without its option": (head(SOCKET[:-2]), (200,), b"page"),
    "an upgrade to what nobody knows": (head(b"Connection: Upgrade", b"Upgrade: foo") + GET, (200, 200), b"page"),
    "an upgrade to HTTP/2": (head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), (200,), b"page"),
    "an upgrade with a body": (
        POST + b"Connection: Upgrade\r\n" + SOCKET + b"Content-Length: 5\r\n\r\nhello" + GET,
        (200, 200),
        b"page",
    ),
    "an upgrade and then a body that looks like a request": (
        head(b"Connection: Upgrade", b"Upgrade: foo") + post(b"%d" % len(GET), GET),
        (200, 200),
        GET,
    ),
    "HTTP/1.0 that is kept": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", (200,), b"page"),
    "an expectation that is met": (POST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello", (200,), b"hello"),
}

# nothing is answered yet
AWAITED: dict[str, bytes] = {
    "nothing": b"",
    "half of a head": GET[:-2],
    "HTTP/0.9 in the making": b"GET /",
    "half of a blank line": b"\r",
    "a chunk and no end": CHUNKED + HELLO,
    "half of a chunk's size": CHUNKED + b"1",
    "half of the last line": CHUNKED + HELLO + b"0\r\n\r",
    "half of a body": post(b"10"),
    "no body yet": post(b"1000", b""),
}
