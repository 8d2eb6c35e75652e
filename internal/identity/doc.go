// Package identity answers one question: who is at the other end, and does it belong here?
//
// A mesh is an Ed25519 certificate authority. A node is an Ed25519 key. Both are named by what they are: the first
// 16 bytes of the SHA-256 of the public key, shown as 26 characters of lower-case base32. Nothing else is an
// identity; a node's name is a label and may repeat.
//
//	mesh credential (mesh.pem)             node key (kept for years)
//	CA key + self-signed certificate       Ed25519, node id = hash of it
//	        │                                      │
//	        └── signs, for 30 days ──► certificate ┘
//	            spiffe://<mesh id>/ns/<namespace>/node/<node id>/name/<name>[/role/<role>]...
//
// The mesh credential signs nodes itself, or signs one intermediate authority that does; then a node presents its
// certificate first and the intermediate's after it. The mesh's own certificate need not be sent: whoever is in the
// mesh has it already, and nobody else's copy would be believed.
//
// Such an intermediate is the user credential of a machine that joined (internal/enroll). It lasts a year, can sign no
// further authority, and says in a URI of its own which nodes it may sign, see [Limits]:
//
//	spiffe://<mesh id>/ns/<namespaces>/user/<key id>/name/<names>[/role/<roles>]...
//
// It is the same type, [Mesh], as the mesh's own credential, and can do less: errors match [ErrLimits] and [ErrNoMeshKey].
//
// # One machine, nothing to configure
//
// [DefaultMesh] is the user's own mesh, made on first use in the user's configuration directory and readable by that
// user alone. Two processes of one user are therefore in one mesh at once, and nobody else is.
//
// # A handshake that lets everyone in, and a verdict that does not
//
// QUIC carries no words with a TLS alert, and the accepting side never hears of a handshake that failed. A
// certificate refused inside the handshake would leave one side with a number and the other with nothing. So the
// TLS handshake of [Credentials.TLS] completes with any certificate, or none; it only proves that the other side
// holds the key of the certificate it shows. The verdict is [Credentials.Verify], and the rule for both roles is:
//
//	handshake done ──► Verify(state) ──► nil:      the link may carry its first byte
//	                                └──► *Refusal: close with the code; read and write nothing
//
// A caller that skips Verify has let a stranger in. The other side has a verdict of its own: a dialer's handshake is
// done before the acceptor has seen its certificate, so a link is up only when the acceptor has answered on it.
//
// # What this package leaves to others
//
// Who may do what and who has been revoked (internal/policy), and which of two nodes with one id stays.
package identity
