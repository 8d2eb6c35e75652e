package wire

import (
	"encoding/binary"
	"fmt"
)

// AskVersion is the version of the questions that are asked here.
const AskVersion = 1

// Ask is a question to another node about what it sees.
type Ask struct {
	Version uint64
	What    string // which question
	About   string // the name it concerns
}

// AppendAsk appends an ASK frame. What has at most MaxName bytes; an overlong About is cut.
func AppendAsk(dst []byte, a Ask) []byte {
	dst, at := open(dst)
	dst = binary.AppendUvarint(dst, a.Version)
	dst = appendStr(dst, a.What)
	dst = appendStr(dst, Clip(a.About, MaxReason))
	return seal(dst, at, TypeAsk)
}

// ParseAsk reads the payload of an ASK.
func ParseAsk(b []byte) (Ask, error) {
	p := parser{b: b}
	a := Ask{Version: p.uvarint(), What: p.str(MaxName), About: p.str(MaxReason)}
	return a, p.open()
}

// Told is an answer to an ASK, or a part of one.
type Told struct {
	Refused bool   // there is no answer: Body says why
	More    bool   // another TOLD follows
	Body    []byte // at most MaxTold bytes
}

const (
	toldRefused = 1 << iota
	toldMore
)

// AppendTold appends a TOLD frame.
func AppendTold(dst []byte, t Told) []byte {
	dst, at := open(dst)
	dst = append(dst, flag(t.Refused)*toldRefused|flag(t.More)*toldMore)
	return seal(append(dst, t.Body...), at, TypeTold)
}

// ParseTold reads the payload of a TOLD. Its body aliases b.
func ParseTold(b []byte) (Told, error) {
	p := parser{b: b}
	flags := p.u8()
	switch {
	case p.err != nil:
	case flags&^(toldRefused|toldMore) != 0 || flags == toldRefused|toldMore:
		p.fail(fmt.Errorf("%w: told flags %#x", ErrMalformed, flags))
	case len(p.b) > MaxTold:
		p.fail(fmt.Errorf("%w: told %d bytes", ErrTooLong, len(p.b)))
	}
	if p.err != nil {
		return Told{}, p.err
	}
	return Told{Refused: flags&toldRefused != 0, More: flags&toldMore != 0, Body: p.b}, nil
}
