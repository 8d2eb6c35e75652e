package enroll

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"peermesh/internal/identity"
)

func fixedToken() Token {
	return Token{Mesh: identity.MeshID{1, 2}, Secret: Secret{3, 4}, Expires: time.Unix(1_800_000_000, 0),
		Addrs: []string{"192.0.2.1:7000", "[2001:db8::1]:7000", "hub.example:1"}}
}

func TestATokenRoundTrips(t *testing.T) {
	want := fixedToken()
	text := want.Text()
	got, err := ParseToken(" " + text + "\n")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
	}
	const golden = "pm1aeaqeaaaaaaaaaaaaaaaaaaaaaaagbaaaaaaaaaaaaaaaaaaaaaaaaaaaaagwsosaabqjqaaaiarwwageaaq3oaaaaaaaaaaaaaaaaaaaenvqaalnb2weltfpbqw24dmmuaactpkoeqa"
	if text != golden {
		t.Errorf("Text = %s, want %s: machines of two versions would not understand each other", text, golden)
	}
}

func TestADamagedTokenIsRefused(t *testing.T) {
	good := fixedToken().Text()
	for i := range good {
		for _, c := range []string{"a", "b", "", "7\n"} {
			if bad := good[:i] + c + good[i+1:]; bad != good {
				if got, err := ParseToken(bad); !errors.Is(err, ErrTyping) && !errors.Is(err, ErrNoToken) {
					t.Fatalf("%q: %+v, %v, want ErrTyping", bad, got, err)
				}
			}
		}
	}
	for text, want := range map[string]error{
		"": ErrNoToken, "mesh.pem": ErrNoToken, "pm1": ErrTyping, good[:len(good)/2]: ErrTyping, good + good: ErrTyping,
		strings.ToUpper(good): ErrNoToken, "pm1" + strings.Repeat("a", maxToken): ErrTyping,
	} {
		if _, err := ParseToken(text); !errors.Is(err, want) {
			t.Errorf("%.60q: %v, want %v", text, err, want)
		}
	}
}

func TestATokenOfALaterVersionIsCalledThat(t *testing.T) {
	later := sealed([]byte{tokenVersion + 1, 9, 9})
	if _, err := ParseToken(later); !errors.Is(err, ErrVersion) {
		t.Errorf("%s: %v, want ErrVersion", later, err)
	}
}

func TestAddressesThatATokenCannotCarryAreAnError(t *testing.T) {
	many := make([]string, MaxAddrs+1)
	for i := range many {
		many[i] = fmt.Sprintf("192.0.2.%d:1", i)
	}
	for _, addrs := range [][]string{nil, many, {"192.0.2.1"}, {":1"}, {"a:b"}, {"a:99999"}, {"a b:1"}, {"\x1b:1"}, {strings.Repeat("a", 256) + ":1"}} {
		if _, err := NewToken(identity.MeshID{1}, time.Now(), addrs); err == nil {
			t.Errorf("%.60q: no error", addrs)
		}
	}
	for _, addr := range []string{"192.0.2.1:0", "[fe80::1%eth0]:1", "[::ffff:192.0.2.1]:1"} {
		if tok, err := NewToken(identity.MeshID{1}, time.Now(), []string{addr}); err == nil && len(tok.Addrs) != 1 {
			t.Errorf("%q: %q", addr, tok.Addrs)
		}
	}
}

func TestTwoTokensHaveTwoSecretsAndPrintNone(t *testing.T) {
	a, errA := NewToken(identity.MeshID{1}, time.Now(), []string{"a:1"})
	b, errB := NewToken(identity.MeshID{1}, time.Now(), []string{"a:1"})
	if errA != nil || errB != nil || a.Secret == b.Secret || a.Secret == (Secret{}) {
		t.Errorf("%v, %v: secrets %x and %x", errA, errB, a.Secret[:], b.Secret[:])
	}
	if got := fmt.Sprintf("%v %x %d %q", a.Secret, a.Secret, a.Secret, a.Secret); got != "secret secret secret secret" {
		t.Errorf("a secret prints as %s", got)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(fixedToken().Text())
	f.Add("pm1")
	f.Add("pm1aeaqeaaaaaaaaaaaaaaaaaaaaaaagbaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaanne5e")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := ParseToken(text)
		switch {
		case err == nil && tok.Text() != strings.TrimSpace(text):
			t.Errorf("%q is %+v, which is %q", text, tok, tok.Text())
		case err != nil && !errors.Is(err, ErrNoToken) && !errors.Is(err, ErrTyping) && !errors.Is(err, ErrVersion):
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzParseContent is FuzzParseToken behind the checksum.
func FuzzParseContent(f *testing.F) {
	f.Add([]byte{1})
	f.Add(append(append([]byte{1}, make([]byte, 32+8)...), 1, 4, 1, 2, 3, 4, 0, 7))
	f.Add(append(append([]byte{1}, make([]byte, 32+8)...), 1, 0, 1, 'a', 0, 7))
	f.Fuzz(func(t *testing.T, content []byte) {
		tok, ok := parseContent(content)
		if ok && (len(tok.Addrs) < 1 || len(tok.Addrs) > MaxAddrs || tok.Expires.Year() > 9999) {
			t.Errorf("%x is %+v", content, tok)
		}
	})
}
