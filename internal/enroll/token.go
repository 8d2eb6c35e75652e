package enroll

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"peermesh/internal/identity"
)

// Bounds of a token.
const (
	MaxAddrs     = 8   // addresses; each is dialled
	maxHost      = 255 // bytes of a name, as in DNS
	maxToken     = 4096
	secretBytes  = 16
	checksum     = 4
	tokenPrefix  = "pm1"
	tokenVersion = 1
)

// Why a text is no token.
var (
	ErrNoToken = errors.New("not a token; a token begins with " + tokenPrefix)
	ErrTyping  = errors.New("the token is damaged or not whole; copy all of it")
	ErrVersion = errors.New("the token is of a later version of peermesh")
)

// Secret proves that somebody was invited. It prints as nothing.
type Secret [secretBytes]byte

// String returns nothing of the secret.
func (Secret) String() string { return "secret" }

// Format writes nothing of the secret under every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("secret")) }

// Token is an invitation as it is handed over.
type Token struct {
	Mesh    identity.MeshID
	Secret  Secret
	Expires time.Time // to the second; for people, the inviting machine decides by its own clock
	Addrs   []string  // host:port, 1 to MaxAddrs: where the inviting machine listens
}

// NewToken makes a token with a fresh secret. The error is about the addresses.
func NewToken(mesh identity.MeshID, expires time.Time, addrs []string) (Token, error) {
	t := Token{Mesh: mesh, Expires: time.Unix(expires.Unix(), 0), Addrs: addrs}
	if _, err := rand.Read(t.Secret[:]); err != nil {
		return Token{}, fmt.Errorf("enroll: %w", err)
	}
	back, err := ParseToken(t.Text())
	if err != nil {
		return Token{}, fmt.Errorf("enroll: addresses %q: %w", addrs, err)
	}
	return back, nil
}

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Text returns the token as it is handed over. Whoever reads it can join.
func (t Token) Text() string {
	b := append([]byte{tokenVersion}, t.Mesh[:]...)
	b = append(b, t.Secret[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	b = append(b, byte(len(t.Addrs)))
	for _, addr := range t.Addrs {
		b = appendAddr(b, addr)
	}
	return sealed(b)
}

// sealed is the text of a token's content.
func sealed(content []byte) string {
	sum := sha256.Sum256(content)
	return tokenPrefix + tokenEncoding.EncodeToString(append(content, sum[:checksum]...))
}

// appendAddr writes what takeAddr reads. What is no address becomes an empty host, which takeAddr refuses.
func appendAddr(b []byte, addr string) []byte {
	if ap, err := netip.ParseAddrPort(addr); err == nil && ap.Addr().Zone() == "" {
		kind := byte(6)
		if ap.Addr().Is4() {
			kind = 4
		}
		b = append(append(b, kind), ap.Addr().AsSlice()...)
		return binary.BigEndian.AppendUint16(b, ap.Port())
	}
	host, service, _ := net.SplitHostPort(addr)
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || len(host) > maxHost {
		host = ""
	}
	b = append(append(b, 0, byte(len(host))), host...)
	return binary.BigEndian.AppendUint16(b, uint16(port))
}

// ParseToken reads what Text writes, and nothing else but spaces around it. The error matches ErrNoToken, ErrTyping or
// ErrVersion.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	body, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return Token{}, ErrNoToken
	}
	if len(text) > maxToken || strings.ContainsAny(body, "\r\n") { // the decoder would skip line breaks
		return Token{}, ErrTyping
	}
	raw, err := tokenEncoding.DecodeString(body)
	if err != nil || len(raw) < checksum {
		return Token{}, ErrTyping
	}
	content, sum := raw[:len(raw)-checksum], sha256.Sum256(raw[:len(raw)-checksum])
	if !bytes.Equal(raw[len(content):], sum[:checksum]) {
		return Token{}, ErrTyping
	}
	if len(content) > 0 && content[0] > tokenVersion {
		return Token{}, ErrVersion
	}
	t, ok := parseContent(content)
	if !ok || t.Text() != text {
		return Token{}, ErrTyping
	}
	return t, nil
}

func parseContent(b []byte) (t Token, ok bool) {
	const fixed = 1 + len(t.Mesh) + secretBytes + 8 + 1
	if len(b) < fixed || b[0] != tokenVersion {
		return t, false
	}
	b = b[1+copy(t.Mesh[:], b[1:]):]
	b = b[copy(t.Secret[:], b):]
	seconds, count := binary.BigEndian.Uint64(b), int(b[8])
	b = b[9:]
	if seconds > math.MaxInt32*64 || count < 1 || count > MaxAddrs { // beyond any date that can be shown
		return t, false
	}
	t.Expires = time.Unix(int64(seconds), 0)
	for range count {
		addr, rest, ok := takeAddr(b)
		if !ok {
			return t, false
		}
		t.Addrs, b = append(t.Addrs, addr), rest
	}
	return t, len(b) == 0
}

// takeAddr reads one address from the front of b.
func takeAddr(b []byte) (addr string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	host, length := 1, 16
	switch b[0] {
	case 6:
	case 4:
		length = 4
	case 0:
		host, length = 2, int(b[1])
	default:
		return "", nil, false
	}
	if len(b) < host+length+2 || length == 0 {
		return "", nil, false
	}
	name, port := b[host:host+length], strconv.Itoa(int(binary.BigEndian.Uint16(b[host+length:])))
	rest = b[host+length+2:]
	if ip, isIP := netip.AddrFromSlice(name); isIP && b[0] != 0 {
		return net.JoinHostPort(ip.String(), port), rest, true
	}
	return net.JoinHostPort(string(name), port), rest, isHost(string(name))
}

// isHost reports whether s can be shown and looked up as the name of a host.
func isHost(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) || strings.ContainsRune(" []/", r)
	})
}
