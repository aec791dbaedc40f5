// Package native serves the native client stream: it takes requests of programs from unix
// sockets and TLS connections, hands them to the site, and sends the answers back.
//
// What it promises: a request that was read is answered, unless its connection breaks
// first; one that is refused had no effect. Every resource that a client can use is
// bounded: connections, requests and bytes under way (the box stops reading: what the
// client sends waits in the client), frames, the time that a frame may take, and answers
// that are not read (the connection is closed). A stop answers what is under way first.
//
// Data flow: a connection's reader decodes a request, checks it, notes the time and gives
// it to Config.Submit; the site calls back with the reply, which is encoded at once to the
// end of the connection's buffer, from which its writer sends. The client numbers its
// messages itself (session and number), so that it may repeat them at another box.
package native
