// Package link carries messages between the boxes of a site: authenticated, in order while a
// connection lasts, and bounded in everything. It knows when a peer is gone and
// says so; it decides nothing about what is said. coord/site hands messages in with Send and
// gets them from Config.OnMessage; coord/wire encodes them.
//
// # What it promises
//
//   - A message that arrives was sent by the owner of the key that it is said to come from, in this site, and arrives once
//     and in the order of sending, unless it was dropped before.
//   - It may be dropped: when the peer is not up, when its queue is full (by Class, the least needed
//     first; counted), and when a connection breaks. Retransmission is the protocol's.
//   - Send never blocks. No peer, however slow, silent or hostile, keeps another from being served.
//   - A killed process is noticed when its kernel closes the connection (within
//     milliseconds); a cut cable, a stopped process or a lost route by its silence: about 0.9 s.
//   - Nothing that comes from outside is allocated for before its length is known to be within a
//     limit, and nothing before authentication takes more than helloBytesMax and a TLS handshake.
//
// # Two connections a pair
//
// Each box dials every other, sends on the connection that it dialled and receives on those that
// it accepted. One connection a pair would halve the sockets, and needs an answer to
// "both dialled at once", to "the dialler cannot reach me but I could reach it", and to
// who may close it. With two, each has one owner; a box that restarts dials at once and is heard at
// once, and being dialled makes its peers dial back without waiting for their back-off; and a
// receiver that pushes back stalls one direction only. At 16 boxes that is 30 sockets.
//
// # Authentication
//
// TLS 1.3, both sides with a certificate, ALPN "holdfast-peer/1". Names, dates and issuers in the
// certificates mean nothing: the peer's public key must be a member's (when dialling, that
// member's). No session tickets: every connection proves possession of the key anew. Then each
// side says Hello, the dialler first.
//
// # The member set changes
//
// A peer is a key. SetMembers replaces the set: who stays keeps the connections and what waits in its queue, wherever it stands in the
// new list; that is why messages come with a BoxID and not with an index. Who is gone gets what waits and is left. When
// our own key changes, each connection that we dialled goes on until one with the new key is there, and that begins when the
// old one has written all, so nothing is lost or out of order; a peer that does not know the new key yet keeps the old connection.
//
// Boxes do not change their set at one time, so a different epoch in a Hello is no reason to refuse: members of both sets speak as ever,
// and OnBehind says that one is to be told of the handover. What is not a member may be a guest:
//
//   - a former member, as long as it is among the last FormerMax, which may not know that it was removed. It is dialled back
//     when it comes.
//   - a box with a key that we do not know, if it says that it is of our site in a later epoch: then it is we who are to be told, by
//     members that joined, or changed their keys, while we were away. Anybody can say so.
//
// Of a guest only where it is and what tells of an epoch is handed on, and that must prove itself; a former member may also ask for what it
// lacks up to the end of its last epoch. A guest has one connection, for guestTime, with bounded messages and bytes, and there are few of them (guest.go). After that it is refused with a reason.
// Every other stranger is refused once it has said Hello, and told that it is none of ours if it knew the site.
//
// # Bytes
//
// A frame is, numbers big-endian:
//
//	0       4      5
//	| length | type | body: length-1 bytes |      1 <= length <= 1 + coord.FrameBytesMax
//
//	type 1  hello    site 8, epoch 8, box 8, incarnation 8, lowest version 2, highest version 2; more
//	                 bytes are a later version's and ignored, up to helloBytesMax
//	type 2  ping     8 bytes that mean something to the sender only; dialler to acceptor
//	type 3  pong     the same 8 bytes; from version 2 on 8 bytes of the acceptor's clock, nanoseconds since 1970, 0 when it
//	                 is not set; acceptor to dialler
//	type 4  message  wire.AppendPeer; dialler to acceptor
//	type 5  refusal  a reason for people, up to 200 bytes; acceptor to dialler, in place of a hello or a pong, then it closes
//
// The version spoken is the lower of the two highest ones; it must not be below either lowest one.
// The incarnation is random per process start: when one that was superseded comes back, again and again,
// two machines run with one identity (see Config.OnTwin).
//
// # Failure detection
//
// The dialler pings every Heartbeat: the ping rides in front of the next write when there is
// traffic, and travels alone only when nothing else was sent. The acceptor answers. The box of the
// higher name pings half a heartbeat after the other, so that each hears the other twice a heartbeat.
//
// There are two verdicts. A peer is silent when nothing was heard of it on either connection for longer
// than its own rhythm makes likely, and Stall (detector.go). It is told as down, and as up when it is heard
// again; its connections stay and nothing is lost. Time for which this box did not run itself
// is not counted (watch.go), nor is time in OnMessage.
//
// And a direction is dead when nothing was heard on it for
//
//	Dead = 2 s >= Heartbeat 0.20 s + TCP's first three retransmissions (0.2 + 0.4 + 0.8 s, RFC 6298 with
//	       Linux's 200 ms minimum) + 0.40 s of a busy scheduler or disk
//
// so that three lost packets in a row, or a stall of 800 ms, are not a failure. A peer is up while both
// directions are and it is not silent. A peer that was silent for Dead, or that comes with another incarnation, is
// dialled anew, whatever TCP thinks of the connection that we had to it. While a long backlog flows to a slow
// peer its pongs wait behind it: then each accepted write counts as life too, for at most busyFactor
// times Dead.
package link
