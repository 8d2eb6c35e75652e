package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// The headers of requests and answers. A message's header NAME travels as Peermesh-Header-NAME, where NAME is in small
// letters; one whose name or value HTTP would bend is in Peermesh-Headers, a JSON object, too.
const (
	headerPrefix = "Peermesh-Header-"
	headerAll    = "Peermesh-Headers"
	headerKey    = "Peermesh-Key"
	headerTTL    = "Peermesh-Ttl"
	headerDelay  = "Peermesh-Delay"
	headerTopic  = "Peermesh-Topic"

	headerAck         = "Peermesh-Ack"   // the path to POST to when the message is done
	headerLease       = "Peermesh-Lease" // its lease
	headerStream      = "Peermesh-Stream"
	headerSeq         = "Peermesh-Seq"
	headerAttempt     = "Peermesh-Attempt"
	headerRedelivered = "Peermesh-Redelivered"
	headerFrom        = "Peermesh-From" // the sender's node id
	headerOutcome     = "Peermesh-Outcome"
	headerDeadline    = "Peermesh-Deadline-Ms" // what is left of a request's time
	headerIdempotency = "Idempotency-Key"
)

// messageOf makes a message of a request's headers and body.
func messageOf(h http.Header, body []byte) (*socket.Message, *Problem) {
	m := &socket.Message{Body: body, Key: h.Get(headerKey)}
	var err error
	if m.TTL, err = durationHeader(h, headerTTL); err != nil {
		return nil, invalid("%v", err)
	}
	if m.Delay, err = durationHeader(h, headerDelay); err != nil {
		return nil, invalid("%v", err)
	}
	if m.Headers, err = headersOf(h); err != nil {
		return nil, invalid("%v", err)
	}
	return m, nil
}

func durationHeader(h http.Header, name string) (time.Duration, error) {
	text := h.Get(name)
	if text == "" {
		return 0, nil
	}
	d, err := parseDuration(text)
	if err != nil || d < time.Millisecond || d > socket.MaxDelay {
		return 0, fmt.Errorf("%s: %q: write a time like 30 (seconds) or 1h30m, at least 1ms", name, text)
	}
	return d, nil
}

// headersOf reads a message's headers; what Peermesh-Headers says wins.
func headersOf(h http.Header) (socket.Headers, error) {
	out := socket.Headers{}
	for k, vs := range h {
		if name, ok := strings.CutPrefix(k, headerPrefix); ok && name != "" {
			out[strings.ToLower(name)] = strings.Join(vs, ", ")
		}
	}
	for _, k := range traceHeaders {
		if v := h.Get(k); v != "" {
			out[strings.ToLower(k)] = v
		}
	}
	if text := h.Get(headerAll); text != "" {
		var exact map[string]string
		if err := json.Unmarshal([]byte(text), &exact); err != nil {
			return nil, fmt.Errorf("%s: not a JSON object of texts: %w", headerAll, err)
		}
		for k, v := range exact {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	if len(out) > wire.MaxHeaders/8 {
		return nil, errors.New("too many headers")
	}
	return out, nil
}

// putHeaders writes a message's headers into an answer.
func putHeaders(h http.Header, m socket.Headers) {
	bent := false
	for k, v := range m {
		if !isToken(k) || !clean(v) {
			bent = true
			continue
		}
		h.Set(headerPrefix+k, v)
	}
	for _, k := range traceHeaders {
		if v := m[strings.ToLower(k)]; v != "" && clean(v) {
			h.Set(k, v)
		}
	}
	if bent {
		h.Set(headerAll, asciiJSON(m))
	}
}

// isToken reports whether a header's name survives HTTP: small letters, digits and some signs.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-_.", c) >= 0) {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// asciiJSON writes headers as JSON in ASCII.
func asciiJSON(m socket.Headers) string {
	text, err := json.Marshal(m)
	if err != nil {
		return "{}" // a map of strings has no error
	}
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		}
	}
	return b.String()
}

// delivery is a message as JSON: in batches, events and WebSockets.
type delivery struct {
	Type        string         `json:"type"` // message
	Lease       string         `json:"lease,omitempty"`
	Stream      string         `json:"stream"`
	Seq         uint64         `json:"seq"`
	Attempt     uint64         `json:"attempt"`
	Redelivered bool           `json:"redelivered,omitempty"`
	From        string         `json:"from"`
	Topic       string         `json:"topic,omitempty"`
	Key         string         `json:"key,omitempty"`
	Headers     socket.Headers `json:"headers,omitempty"`
	AgeMs       int64          `json:"age_ms"`
	Text        *string        `json:"text,omitempty"` // the body, if it is UTF-8
	Body        []byte         `json:"body,omitempty"` // in base64, if it is not
}

// asText splits a body into what JSON can carry as it is and what it cannot.
func asText(body []byte) (*string, []byte) {
	if !isText(body) {
		return nil, body
	}
	text := string(body)
	return &text, nil
}

func deliveryOf(m *socket.Message, lease string) delivery {
	d := delivery{Type: "message", Lease: lease, Stream: m.Stream(), Seq: m.Seq(), Attempt: m.Attempt(), Redelivered: m.Redelivered(),
		From: m.From().String(), Topic: m.Topic, Key: m.Key, Headers: m.Headers, AgeMs: m.Age().Milliseconds()}
	d.Text, d.Body = asText(m.Body)
	return d
}

// gapEvent is a hole in a stream: these will never come.
type gapEvent struct {
	Type   string `json:"type"` // gap
	Stream string `json:"stream,omitempty"`
	From   uint64 `json:"from,omitempty"`
	To     uint64 `json:"to,omitempty"`
	Reason string `json:"reason,omitempty"`
	More   int    `json:"more,omitempty"` // so many gaps were too many to be told
}

// gapsOf takes the holes that a room has to tell.
func gapsOf(r *room) (out []gapEvent) {
	gaps, missed := r.takeGaps()
	for _, g := range gaps {
		out = append(out, gapEvent{Type: "gap", Stream: g.Stream, From: g.From, To: g.To, Reason: g.Reason})
	}
	if missed > 0 {
		out = append(out, gapEvent{Type: "gap", More: missed})
	}
	return out
}

// putMessage writes what is known of a message into an answer that is its body.
func putMessage(h http.Header, m *socket.Message) {
	h.Set(headerStream, headerText(m.Stream()))
	h.Set(headerSeq, strconv.FormatUint(m.Seq(), 10))
	h.Set(headerAttempt, strconv.FormatUint(m.Attempt(), 10))
	if m.Redelivered() {
		h.Set(headerRedelivered, "true")
	}
	h.Set(headerFrom, m.From().String())
	if m.Key != "" {
		h.Set(headerKey, headerText(m.Key))
	}
	if m.Topic != "" {
		h.Set(headerTopic, headerText(m.Topic))
	}
	putHeaders(h, m.Headers)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(m.Body)))
}

// headerText is a text as a header can have it: what cannot stand there is as in a JSON string.
func headerText(s string) string {
	if clean(s) {
		return s
	}
	text := asciiJSON(socket.Headers{"": s})
	return text[len(`{"":"`) : len(text)-len(`"}`)]
}
