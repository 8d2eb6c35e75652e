package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"peermesh/internal/wire"
	"peermesh/patterns"
)

// name is the queue, channel or service in the path.
func (c *call) name(kind wire.Kind) (string, *Problem) {
	name := c.r.PathValue("name")
	if err := patterns.CheckName(kind, name); err != nil {
		return "", invalid("%v", err)
	}
	return name, nil
}

// duration reads a query parameter of seconds or a Go duration.
func (c *call) duration(name string, standard, least, most time.Duration) (time.Duration, *Problem) {
	text := c.r.URL.Query().Get(name)
	if text == "" {
		return min(standard, most), nil
	}
	d, err := parseDuration(text)
	if err != nil || d < least || d > most {
		return 0, invalid("%s=%q: write a time from %v to %v, like 30 (seconds) or 1m30s", name, text, least, most)
	}
	return d, nil
}

// parseDuration reads a Go duration, or a number of seconds.
func parseDuration(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	return time.ParseDuration(s)
}

// number reads a query parameter that is a number.
func (c *call) number(name string, standard, least, most uint64) (uint64, *Problem) {
	text := c.r.URL.Query().Get(name)
	if text == "" {
		return standard, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, invalid("%s=%q: write a number from %d to %d", name, text, least, most)
	}
	return n, nil
}

// bodyChunk is how much memory a body takes at a time while it arrives.
const bodyChunk = 32 << 10

// body reads the request's body. What it takes of the memory for bodies is given back by the function it returns, which
// must be called.
func (g *Gateway) body(c *call) (body []byte, free func(), p *Problem) {
	taken := int64(0)
	free = func() { g.bodies.give(taken) }
	most := c.cfg.Limits.Body
	if c.r.ContentLength > most {
		return nil, free, tooLarge(most)
	}
	control := http.NewResponseController(c.w)
	_ = control.SetReadDeadline(time.Now().Add(c.cfg.Limits.ReadTime)) // without it the server's own bound holds
	defer func() {
		if p == nil {
			_ = control.SetReadDeadline(time.Time{}) // or the client would seem to be gone then
			return
		}
		c.w.Header().Set("Connection", "close") // what is left of the body is not waited for
	}()
	in := http.MaxBytesReader(c.w, c.r.Body, most)
	if c.r.ContentLength >= 0 {
		most = c.r.ContentLength
	}
	var end [1]byte // what is read into when there is room for no more
	for {
		room := body[len(body):cap(body)]
		switch grow := min(max(int64(cap(body)), bodyChunk), most-int64(cap(body))); {
		case len(room) > 0:
		case grow == 0:
			room = end[:]
		case !g.bodies.take(grow):
			return nil, free, busy("memory", "too many bodies at a time", "", "try again in a second")
		default:
			taken += grow
			body = append(make([]byte, 0, int64(cap(body))+grow), body...)
			room = body[len(body):cap(body)]
		}
		n, err := in.Read(room)
		if n > 0 && len(body) == cap(body) {
			return nil, free, tooLarge(most) // no reader does that
		}
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, free, nil
		}
		if err != nil {
			return nil, free, bodyProblem(err, c.cfg.Limits.Body)
		}
	}
}

func tooLarge(most int64) *Problem {
	return problem(http.StatusRequestEntityTooLarge, "too-large", "the body is too large", strconv.FormatInt(most, 10)+" bytes at most",
		"send less, or a reference to it")
}

// bodyProblem says why a body did not come.
func bodyProblem(err error, most int64) *Problem {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(most)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem(http.StatusRequestTimeout, "slow", "the body did not come in time", "", "nothing was accepted; send it again")
	}
	return problem(http.StatusBadRequest, "cut-off", "the body was cut off", err.Error(), "nothing was accepted; send it again")
}

// traceHeaders travel under their own names.
var traceHeaders = []string{"Traceparent", "Tracestate"}

// clean reports whether a text can stand in an HTTP header as it is.
func clean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[len(s)-1] != ' '
}

// isText reports whether a body may be shown as text.
func isText(b []byte) bool { return utf8.Valid(b) }
