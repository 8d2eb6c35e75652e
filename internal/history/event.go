package history

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// event is one line of a log. The slices lie in the line and live as long as it does; what a line does not say is zero.
type event struct {
	t           int64
	kind        []byte
	n           uint64
	id, from    []byte
	by, sub     []byte
	stream      []byte
	state       []byte
	reason      []byte
	level       []byte
	outcome     []byte
	hash        []byte
	seq         uint64
	first, last uint64 // a gap's or loss's from and to
	incarnation uint64
	redelivered bool
	ledger      []byte // still JSON
}

// maxDepth bounds how deep values of a line may be nested; ours are three deep.
const maxDepth = 32

const eventVersion = 1

var (
	errCut     = errors.New("the line ends too early")
	errEscape  = errors.New("an escape in a name")
	errVersion = errors.New("not a version 1 event")
)

// parse reads a line, which is one JSON object. It is quick rather than strict: whatever is valid is read as
// encoding/json reads it, and something that is not valid may pass.
func parse(line []byte) (e event, err error) {
	p := parser{rest: line}
	if err := p.expect('{'); err != nil {
		return e, err
	}
	var version uint64
	for first := true; !p.accept('}'); first = false {
		if !first {
			if err := p.expect(','); err != nil {
				return e, err
			}
		}
		key, err := p.key()
		if err != nil {
			return e, err
		}
		if string(key) == "v" {
			err = p.uint(&version)
		} else {
			err = p.field(&e, key)
		}
		if err != nil {
			return e, fmt.Errorf("%s: %w", key, err)
		}
	}
	p.blank()
	switch {
	case len(p.rest) > 0:
		return e, fmt.Errorf("%q after the object", p.rest[0])
	case version != eventVersion:
		return e, errVersion
	case len(e.kind) == 0:
		return e, errors.New("no event")
	}
	return e, nil
}

// field reads the value of one key into e. Keys nobody here asks for are passed over.
func (p *parser) field(e *event, key []byte) error {
	switch string(key) {
	case "t":
		return p.int(&e.t)
	case "event":
		return p.string(&e.kind)
	case "n":
		return p.uint(&e.n)
	case "id":
		return p.string(&e.id)
	case "from": // a node, or where a gap begins
		if p.next() == '"' {
			return p.string(&e.from)
		}
		return p.uint(&e.first)
	case "to":
		return p.uint(&e.last)
	case "by":
		return p.string(&e.by)
	case "sub":
		return p.string(&e.sub)
	case "stream":
		return p.string(&e.stream)
	case "state":
		return p.string(&e.state)
	case "reason":
		return p.string(&e.reason)
	case "level":
		return p.string(&e.level)
	case "outcome":
		return p.string(&e.outcome)
	case "hash":
		return p.string(&e.hash)
	case "seq":
		return p.uint(&e.seq)
	case "incarnation":
		return p.uint(&e.incarnation)
	case "redelivered":
		return p.bool(&e.redelivered)
	case "ledger":
		var err error
		e.ledger, err = p.value(0)
		return err
	}
	_, err := p.value(0)
	return err
}

// hashed is the hash as a number: 8 bytes in hex.
func (e *event) hashed() (uint64, error) {
	var b [8]byte
	if len(e.hash) != 16 {
		return 0, fmt.Errorf("a hash of %d digits", len(e.hash))
	}
	if _, err := hex.Decode(b[:], e.hash); err != nil {
		return 0, err
	}
	var h uint64
	for _, x := range b {
		h = h<<8 | uint64(x)
	}
	return h, nil
}

// parser reads values off the front of a line.
type parser struct{ rest []byte }

func (p *parser) blank() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\t' || p.rest[0] == '\r' || p.rest[0] == '\n') {
		p.rest = p.rest[1:]
	}
}

// next is the byte that comes next, 0 at the end.
func (p *parser) next() byte {
	p.blank()
	if len(p.rest) == 0 {
		return 0
	}
	return p.rest[0]
}

func (p *parser) accept(c byte) bool {
	if p.next() != c || len(p.rest) == 0 {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) expect(c byte) error {
	switch {
	case p.accept(c):
		return nil
	case len(p.rest) == 0:
		return errCut
	}
	return fmt.Errorf("%q, want %q", p.rest[0], c)
}

// key reads a name and the colon behind it.
func (p *parser) key() ([]byte, error) {
	raw, escaped, err := p.quoted()
	if err != nil {
		return nil, err
	}
	if escaped {
		return nil, errEscape
	}
	return raw, p.expect(':')
}

// quoted reads a string as it stands, without its quotes.
func (p *parser) quoted() (raw []byte, escaped bool, err error) {
	if err := p.expect('"'); err != nil {
		return nil, false, err
	}
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			raw, p.rest = p.rest[:i], p.rest[i+1:]
			return raw, escaped, nil
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			return nil, false, fmt.Errorf("%q in a string", c)
		}
	}
	return nil, false, errCut
}

func (p *parser) string(to *[]byte) error {
	whole := p.rest
	raw, escaped, err := p.quoted()
	if err != nil || !escaped {
		*to = raw
		return err
	}
	var s string
	if err := json.Unmarshal(whole[:len(whole)-len(p.rest)], &s); err != nil {
		return err
	}
	*to = []byte(s)
	return nil
}

func (p *parser) uint(to *uint64) error {
	p.blank()
	var v uint64
	i := 0
	for ; i < len(p.rest) && '0' <= p.rest[i] && p.rest[i] <= '9'; i++ {
		hi, lo := bits.Mul64(v, 10)
		sum, carry := bits.Add64(lo, uint64(p.rest[i]-'0'), 0)
		if hi > 0 || carry > 0 {
			return errors.New("beyond 64 bits")
		}
		v = sum
	}
	if i == 0 {
		return errors.New("no number")
	}
	p.rest = p.rest[i:]
	*to = v
	return nil
}

func (p *parser) int(to *int64) error {
	negative := p.accept('-')
	var v uint64
	if err := p.uint(&v); err != nil {
		return err
	}
	if v > math.MaxInt64 {
		return errors.New("beyond 63 bits")
	}
	if *to = int64(v); negative {
		*to = -*to
	}
	return nil
}

func (p *parser) bool(to *bool) error {
	raw, err := p.value(0)
	if err != nil {
		return err
	}
	if s := string(raw); s != "true" && s != "false" {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*to = raw[0] == 't'
	return nil
}

// value passes over one value and returns it as it stands.
func (p *parser) value(depth int) ([]byte, error) {
	c := p.next()
	whole := p.rest
	var err error
	switch c {
	case 0:
		return nil, errCut
	case '"':
		_, _, err = p.quoted()
	case '{', '[':
		err = p.nested(c+2, depth+1) // } and ] are two behind { and [
	default:
		p.scalar()
		if len(p.rest) == len(whole) {
			err = fmt.Errorf("%q, want a value", c)
		}
	}
	return whole[:len(whole)-len(p.rest)], err
}

// nested passes over the inside of an object or list.
func (p *parser) nested(end byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested more than %d deep", maxDepth)
	}
	p.rest = p.rest[1:]
	for first := true; !p.accept(end); first = false {
		if !first {
			if err := p.expect(','); err != nil {
				return err
			}
		}
		if end == '}' {
			if _, _, err := p.quoted(); err != nil {
				return err
			}
			if err := p.expect(':'); err != nil {
				return err
			}
		}
		if _, err := p.value(depth); err != nil {
			return err
		}
	}
	return nil
}

// scalar passes over a number or a word.
func (p *parser) scalar() {
	i := 0
	for ; i < len(p.rest); i++ {
		c := p.rest[i]
		if ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' && c != '+' && c != '.' && c != 'E' {
			break
		}
	}
	p.rest = p.rest[i:]
}
