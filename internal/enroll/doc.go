// Package enroll brings a new machine into a mesh: the token that invites it, and what the two sides say to each other
// over a byte stream. It is pure but for the clock of an [Invitation] and the stream it is given.
//
// # Token
//
// A token is text, "pm1" and lower-case base32 of
//
//	version u8 = 1 | mesh id | secret, 16 bytes | expiry, seconds u64 | count u8 |
//	{ kind u8 = 4 | IPv4 | port u16, kind u8 = 6 | IPv6 | port u16, or kind u8 = 0 | length u8 | host | port u16 } |
//	first 4 bytes of the SHA-256 of all before
//
// Integers are big-endian. It holds a secret: whoever has it can join as the invitation says, until it is used up.
//
// # Exchange
//
// The stream is one of a TLS 1.3 connection whose certificates nobody looks at. What both sides sign instead is the
// connection's binding, bytes that TLS exports from its handshake (RFC 8446, 7.5): they are the same at both ends of one
// connection and different for each of two that somebody in the middle has joined.
//
//	joining machine                                   inviting machine, which holds the mesh's key
//	HELLO    version u8                       ──►
//	                                          ◄──     PROOF    signature by the mesh of the binding | mesh certificate
//	  the certificate's key hashes to the mesh id of the token, and the signature is good: or not another byte is said
//	ASK      public key | signature by it of the binding |
//	         MAC under the secret of both     ──►
//	                                          ◄──     GRANT    user certificate
//	  the credential is on disk
//	STORED                                    ──►
//	                                          ◄──     DONE
//
// To renew, RENEW (public key | signature by it of the binding | the old user certificate) stands in the place of ASK: an
// old one that the mesh has signed is enough, whether it has run out or not, and what comes has the same limits. In place
// of PROOF, GRANT or DONE there may be REFUSED (code str | reason), the last frame of its stream. Each frame is
// type u8 | length u16 | payload, of at most [maxFrame] bytes.
//
// So somebody in the middle without the mesh's key gets a HELLO, and nothing that depends on the secret. The secret itself
// never travels. The private key of the new machine never leaves it.
//
// # When a use is used up
//
// A use belongs to the first public key that proves the secret, from ASK on: under one lock, before the GRANT is written.
// The same key may come again, and is given a certificate again without another use. The joining machine keeps its key on
// disk before it asks. So whichever side or message is lost on the way, running join again on that machine completes it
// while the invitation lasts, and no other machine gets what was given to it.
package enroll
