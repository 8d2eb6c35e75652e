package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"
)

// Problem is an answer that is none, as RFC 9457 has it. Type is "urn:peermesh:" and a word that programs may branch on.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Next   string `json:"next"` // what to do about it

	retry int // seconds, of Retry-After
}

const problemType = "application/problem+json"

func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// problem makes one; detail may be empty.
func problem(status int, word, title, detail, next string) *Problem {
	return &Problem{Type: "urn:peermesh:" + word, Title: title, Status: status, Detail: detail, Next: next}
}

// busy is a problem that goes away by itself.
func busy(word, title, detail, next string) *Problem {
	p := problem(http.StatusServiceUnavailable, word, title, detail, next)
	p.retry = 1
	return p
}

func invalid(detail string, args ...any) *Problem {
	return problem(http.StatusBadRequest, "invalid", "the request cannot be understood", fmt.Sprintf(detail, args...),
		"/openapi.json says what this route takes")
}

// problemOf finds the words for an error of a socket.
func problemOf(err error) *Problem {
	var known *Problem
	var remote *patterns.RemoteError
	text := err.Error()
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &remote):
		return problem(http.StatusBadGateway, "remote-error", "the service answered with an error", remote.Message,
			"it was executed once; whether to ask again is up to you")
	case errors.Is(err, patterns.ErrNotExecuted):
		p := busy("not-executed", "the request was certainly not executed", text,
			"ask again; GET /v1/status lists who answers this service")
		return p
	case errors.Is(err, patterns.ErrIndeterminate):
		return problem(http.StatusGatewayTimeout, "indeterminate", "the request may have been executed", text,
			"find out from the service before you ask again; idempotent services can be told so in the gateway's configuration")
	case errors.Is(err, socket.ErrUnknown):
		return problem(http.StatusGatewayTimeout, "unknown", "the message may be kept and sent, or not", text,
			"send it again with the same Idempotency-Key")
	case errors.Is(err, node.ErrNameInUse):
		return problem(http.StatusConflict, "in-use", "the program around this gateway has that socket for itself", text,
			"use another name, or ask that program")
	case errors.Is(err, node.ErrDenied):
		return problem(http.StatusForbidden, "policy", "the policy of the mesh forbids this node to do that", text,
			"peermesh policy test says which rule, and policy apply puts another policy in force")
	case errors.Is(err, socket.ErrTooLarge):
		return problem(http.StatusRequestEntityTooLarge, "too-large", "the message is too large", text, "send less, or a reference to it")
	case errors.Is(err, spool.ErrSpoolFull), errors.Is(err, spool.ErrFull):
		return problem(http.StatusInsufficientStorage, "spool-full", "the disk has no room for more messages", text,
			"nothing was accepted; start pullers, or raise the quota; peermesh spool stat shows both")
	case errors.Is(err, socket.ErrNoDir), errors.Is(err, socket.ErrNotDurable):
		return problem(http.StatusConflict, "not-durable", "the node keeps nothing on disk", text, "give it a state directory (dir)")
	case errors.Is(err, socket.ErrStorage), errors.Is(err, spool.ErrFailed):
		return problem(http.StatusInternalServerError, "storage", "the state directory can no longer be written", text,
			"see the log, free or replace the disk, and restart")
	case errors.Is(err, socket.ErrQueueFull), errors.Is(err, context.DeadlineExceeded):
		return busy("queue-full", "there was no room in time", text, "nothing was accepted; try again later, or start more pullers")
	case errors.Is(err, net.ErrClosed), errors.Is(err, errLeaving):
		return busy("leaving", "the gateway is shutting down", "", "ask another one, or this one when it is back")
	}
	return problem(http.StatusBadRequest, "refused", "the socket refused this", text, "/openapi.json says what this route takes")
}

// refuse answers with a problem.
func refuse(w http.ResponseWriter, p *Problem) {
	h := w.Header()
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="peermesh"`)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // to one who has gone nothing can be said
}

// answerJSON answers with v.
func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // likewise
}
