package discovery

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// advertVersion is the version of the TXT record that we write. A newer one may add keys; what we know of
// it is still read, and the candidate carries the version for the caller to judge.
const advertVersion = 1

// maxStrings bounds the strings of a TXT record that are looked at. Ours has at most 22.
const maxStrings = 64

// listing is a TXT record in Go terms: an advert and its addresses, those of one interface together.
type listing struct {
	version uint16
	advert  Advert // Addrs is nil
	groups  [][]netip.Addr
}

// encodeTXT returns the strings of the TXT record for a, each within 255 bytes:
//
//	v=1                       version of this record
//	id=5fcu...                node id, 26 characters of base32
//	m=0123456789abcdef        hash of the mesh id
//	p=4477                    port
//	e=12                      incarnation
//	n=01234567                nonce
//	a0=10.0.0.7,fe80::7       addresses of one interface; a1 those of the next, and so on
func encodeTXT(a Advert, groups [][]netip.Addr) []string {
	txt := []string{
		"v=" + strconv.Itoa(advertVersion),
		"id=" + a.Node,
		"m=" + hex.EncodeToString(a.Mesh[:]),
		"p=" + strconv.FormatUint(uint64(a.Port), 10),
		"e=" + strconv.FormatUint(a.Incarnation, 10),
		"n=" + hex.EncodeToString(a.Nonce[:]),
	}
	for i, group := range groups {
		texts := make([]string, len(group))
		for j, addr := range group {
			texts[j] = addr.String()
		}
		txt = append(txt, "a"+strconv.Itoa(i)+"="+strings.Join(texts, ","))
	}
	return txt
}

// parseTXT reads what encodeTXT wrote, or what somebody else made up. Of a key that comes twice the first
// counts (RFC 6763, section 6.4); unknown keys are skipped; everything else that is odd is an error. The
// strings are in the escaped form of the DNS library, so that a control character shows as a backslash,
// which no value may contain.
func parseTXT(txt []string) (listing, error) {
	if len(txt) > maxStrings {
		return listing{}, fmt.Errorf("%d strings, want at most %d", len(txt), maxStrings)
	}
	var (
		l    listing
		seen = make(map[string]bool)
	)
	for _, s := range txt {
		if len(s) > maxString {
			return listing{}, fmt.Errorf("string of %d bytes, want at most %d", len(s), maxString)
		}
		key, value, _ := strings.Cut(s, "=")
		if seen[key] {
			continue
		}
		seen[key] = true
		if err := l.set(key, value); err != nil {
			return listing{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	for _, key := range []string{"v", "id", "m", "p", "e", "n"} {
		if !seen[key] {
			return listing{}, fmt.Errorf("%s is missing", key)
		}
	}
	if len(l.groups) == 0 {
		return listing{}, errors.New("no address")
	}
	return l, nil
}

// set takes in one string of the record.
func (l *listing) set(key, value string) (err error) {
	switch key {
	case "v":
		l.version, err = parsePositive(value)
	case "id":
		l.advert.Node, err = value, checkNode(value)
	case "m":
		err = parseHex(l.advert.Mesh[:], value)
	case "p":
		l.advert.Port, err = parsePositive(value)
	case "e":
		l.advert.Incarnation, err = strconv.ParseUint(value, 10, 64)
	case "n":
		err = parseHex(l.advert.Nonce[:], value)
	default:
		if isGroupKey(key) {
			err = l.addGroup(value)
		}
	}
	return err
}

// isGroupKey says whether key is the letter a and a number.
func isGroupKey(key string) bool {
	number, ok := strings.CutPrefix(key, "a")
	if !ok {
		return false
	}
	_, err := strconv.ParseUint(number, 10, 8)
	return err == nil
}

// addGroup takes in the addresses of one interface.
func (l *listing) addGroup(value string) error {
	have := 0
	for _, g := range l.groups {
		have += len(g)
	}
	texts := strings.Split(value, ",")
	if have+len(texts) > maxAddrs {
		return fmt.Errorf("more than %d addresses", maxAddrs)
	}
	group := make([]netip.Addr, 0, len(texts))
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		if addr.Is4In6() || addr.Zone() != "" || !reachable(addr) {
			return fmt.Errorf("%s is not the address of a host", addr)
		}
		group = append(group, addr)
	}
	l.groups = append(l.groups, group)
	return nil
}

// parsePositive reads a number from 1 to 65535.
func parsePositive(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = errors.New("zero")
	}
	return uint16(n), err
}

// parseHex fills dst, no more and no less.
func parseHex(dst []byte, s string) error {
	if len(s) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%d characters, want %d", len(s), hex.EncodedLen(len(dst)))
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}
