"""A security module behind a Prism-style TokenApi: Thrift, framed, binary, over TLS.

tokenapi    the structures and calls of the interface, as dataclasses; `tokenapi.thrift` says the same in Thrift's words
wire        structures <-> bytes, by Apache Thrift's binary protocol
codes       each error code of the interface, and what it means to us
settings    what must be known of a module before it is asked
orders      our request -> its call and its message id; its answer, held against what was asked
link        one connection: TLS, frames, one call at a time
client      PrismModule: sign-in, connections, asking again without making twice
simulated   what a simulated module answers, and its faults on purpose
simulator   the server around it: the real wire, slow, silent, losing answers
"""
