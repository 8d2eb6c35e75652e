package identity

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// spiffeID is the identity in a certificate's URI:
//
//	spiffe://<mesh id>/ns/<namespace>/node/<node id>/name/<name>[/role/<role>]...
//	spiffe://<mesh id>/ns/<namespace>/user/<key id>/name/<name>[/role/<role>]...
//
// The second is that of a user's authority; its labels are the [Limits] of what it may sign.
//
// SPIFFE allows only letters, digits, '.', '-' and '_' in a path, and no percent-encoding. Labels may hold any text,
// so every other byte, and '_' itself, is written '_' and two lower-case hex digits. An empty label is a lone '_';
// the labels "." and "..", which SPIFFE forbids, are "_2e" and "_2e_2e". Roles come sorted, each once. So there is
// one spelling for each identity, and parseSPIFFE takes no other.
type spiffeID struct {
	mesh   MeshID
	user   bool // of an authority, and the claims are its limits
	node   ID   // or the id of the authority's key
	claims Claims
}

const (
	spiffeScheme   = "spiffe://"
	maxSPIFFEBytes = 2048 // the SPIFFE ID standard, section 2.3
)

// String returns the URI. The claims must be normal.
func (s spiffeID) String() string {
	var b strings.Builder
	b.WriteString(spiffeScheme)
	b.WriteString(s.mesh.String())
	b.WriteString("/ns/" + escape(s.claims.Namespace))
	b.WriteString("/" + s.kind() + "/" + s.node.String())
	b.WriteString("/name/" + escape(s.claims.Name))
	for _, role := range s.claims.Roles {
		b.WriteString("/role/" + escape(role))
	}
	return b.String()
}

// The kinds of what an id names.
const (
	kindNode = "node"
	kindUser = "user"
)

func (s spiffeID) kind() string {
	if s.user {
		return kindUser
	}
	return kindNode
}

// parseSPIFFE reads what String writes, and nothing else. It does not compare the ids with anything.
func parseSPIFFE(uri string) (spiffeID, error) {
	if len(uri) > maxSPIFFEBytes {
		return spiffeID{}, fmt.Errorf("URI has %d bytes, at most %d are possible", len(uri), maxSPIFFEBytes)
	}
	path, ok := strings.CutPrefix(uri, spiffeScheme)
	if !ok {
		return spiffeID{}, fmt.Errorf("URI %q does not begin with %s", uri, spiffeScheme)
	}
	parts := strings.Split(path, "/")
	if len(parts) < 7 || len(parts)%2 == 0 || parts[1] != "ns" || parts[3] != kindNode && parts[3] != kindUser || parts[5] != "name" {
		return spiffeID{}, fmt.Errorf("URI %q is not of the form spiffe://MESH/ns/NAMESPACE/node/ID/name/NAME", uri)
	}
	s, err := parseParts(parts)
	if err != nil {
		return spiffeID{}, fmt.Errorf("URI %q: %w", uri, err)
	}
	if s.String() != uri {
		return spiffeID{}, fmt.Errorf("URI %q is not in its canonical form %q", uri, s)
	}
	return s, nil
}

// parseParts fills a spiffeID from the pieces between the slashes, of which the first seven stand in their places.
func parseParts(parts []string) (s spiffeID, err error) {
	s.user = parts[3] == kindUser
	if s.mesh, err = parseHash(parts[0]); err != nil {
		return s, fmt.Errorf("mesh id %w", err)
	}
	if s.node, err = parseHash(parts[4]); err != nil {
		return s, fmt.Errorf("node id %w", err)
	}
	if s.claims.Namespace, err = unescape(parts[2]); err != nil {
		return s, fmt.Errorf("namespace %w", err)
	}
	if s.claims.Name, err = unescape(parts[6]); err != nil {
		return s, fmt.Errorf("name %w", err)
	}
	for pair := range slices.Chunk(parts[7:], 2) {
		if pair[0] != "role" {
			return s, fmt.Errorf("%q stands where only a role may", pair[0])
		}
		role, err := unescape(pair[1])
		if err != nil {
			return s, fmt.Errorf("role %w", err)
		}
		s.claims.Roles = append(s.claims.Roles, role)
	}
	s.claims, err = s.claims.normal()
	return s, err
}

// escape writes a label as a path segment.
func escape(label string) string {
	if label == "" {
		return "_"
	}
	onlyDots := label == "." || label == ".."
	var b strings.Builder
	for i := range len(label) {
		if c := label[i]; isPlain(c) && !onlyDots {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// unescape reads a path segment. It takes more than escape writes; parseSPIFFE compares with the canonical form.
func unescape(segment string) (string, error) {
	if segment == "_" {
		return "", nil
	}
	first, escaped, found := strings.Cut(segment, "_")
	label := first
	for found {
		var piece string
		piece, escaped, found = strings.Cut(escaped, "_")
		if len(piece) < 2 {
			return "", fmt.Errorf("%q: want two hex digits after '_'", segment)
		}
		c, err := hex.DecodeString(piece[:2])
		if err != nil {
			return "", fmt.Errorf("%q: want two hex digits after '_'", segment)
		}
		label += string(c) + piece[2:]
	}
	return label, nil
}

// isPlain reports whether c stands for itself in a segment.
func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.'
}
