package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Verb is what a client wants to do.
type Verb string

// The verbs.
const (
	Push Verb = "push"
	Pull Verb = "pull"
	Pub  Verb = "pub"
	Sub  Verb = "sub"
	Req  Verb = "req"
	Rep  Verb = "rep"
	See  Verb = "see"  // what the node sees and counts, the metrics, and the web page; it has no names
	Dead Verb = "dead" // look into dead letters and bring them back
)

var verbs = []Verb{Push, Pull, Pub, Sub, Req, Rep, See, Dead}

// Right allows a verb for names.
type Right struct {
	Verb Verb   // "*": all
	Name string // "jobs", or "jobs-*" for all that begin so, or "*"
}

// ParseRight reads "VERB NAME" or "see".
func ParseRight(s string) (Right, error) {
	verb, name, named := strings.Cut(s, " ")
	r := Right{Verb(verb), name}
	if !named && r.Verb == See {
		r.Name = "*"
	}
	return r, r.check()
}

func (r Right) check() error {
	switch {
	case r.Verb != "*" && !slices.Contains(verbs, r.Verb):
		return fmt.Errorf("right %q: no such verb; write push, pull, pub, sub, req, rep, see, dead or *", r.Verb+" "+Verb(r.Name))
	case r.Name == "" || strings.TrimSpace(r.Name) != r.Name:
		return fmt.Errorf("right %q: name a queue, channel or service, or * for all", r.Verb+" "+Verb(r.Name))
	case strings.Contains(strings.TrimSuffix(r.Name, "*"), "*"):
		return fmt.Errorf("right %q: * may stand at the end only", r.Verb+" "+Verb(r.Name))
	}
	return nil
}

// allows reports whether the right covers a verb and a name.
func (r Right) allows(v Verb, name string) bool {
	if r.Verb != "*" && r.Verb != v {
		return false
	}
	if prefix, all := strings.CutSuffix(r.Name, "*"); all {
		return strings.HasPrefix(name, prefix)
	}
	return name == r.Name
}

// Token is one client, or group of them: what it sends in "Authorization: Bearer SECRET" has that hash. The secret
// itself is nowhere kept.
type Token struct {
	Name   string // for people and for logs
	Hash   [sha256.Size]byte
	Rights []Right
}

// hashPrefix begins the text of a hash.
const hashPrefix = "sha256:"

// NewSecret makes a secret of 256 random bits, and the text of its hash.
func NewSecret() (secret, hash string) {
	secret = "pm_" + rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	return secret, hashPrefix + hex.EncodeToString(sum[:])
}

// ParseHash reads "sha256:" and 64 hexadecimal digits.
func ParseHash(s string) (sum [sha256.Size]byte, err error) {
	digits, ok := strings.CutPrefix(s, hashPrefix)
	if !ok || len(digits) != 2*len(sum) {
		return sum, errors.New("hash: write sha256: and 64 hexadecimal digits")
	}
	if _, err = hex.Decode(sum[:], []byte(digits)); err != nil {
		return sum, fmt.Errorf("hash: %w", err)
	}
	return sum, nil
}

func (t Token) check() error {
	if t.Name == "" {
		return errors.New("a token needs a name")
	}
	if t.Hash == [sha256.Size]byte{} {
		return fmt.Errorf("%s: no hash", t.Name)
	}
	for _, r := range t.Rights {
		if err := r.check(); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return nil
}

func (t *Token) allows(v Verb, name string) bool {
	return slices.ContainsFunc(t.Rights, func(r Right) bool { return r.allows(v, name) })
}

// bearer is the token whose secret the request shows, nil if it shows none that is known. How long it takes says nothing
// about the secrets: hashes are compared, in constant time, and all of them.
func bearer(tokens []Token, r *http.Request) *Token {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(secret))
	var found *Token
	for i := range tokens {
		if subtle.ConstantTimeCompare(sum[:], tokens[i].Hash[:]) == 1 {
			found = &tokens[i]
		}
	}
	return found
}
