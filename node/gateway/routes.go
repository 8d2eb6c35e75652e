package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"peermesh/internal/wire"
)

// route is one thing that can be asked for. The table of them is what is served, what /openapi.json tells, and what a
// client needs a right for.
type route struct {
	method, path string
	verb         Verb // "": everybody may
	probe        bool // it is answered even when there are too many requests
	about        string
	query        []param
	headers      []param // of the request
	body         string  // what the request's body is; "": it has none
	answers      []reply
	serve        func(*call) *Problem
}

// param is a query parameter or a header.
type param struct{ name, about string }

// reply is a way to answer.
type reply struct {
	status int
	about  string
	kind   string // media type; "": no body
}

const (
	bytesKind  = "application/octet-stream"
	jsonKind   = "application/json"
	eventsKind = "text/event-stream"
)

// pathOf writes a name as one segment of a path.
func pathOf(name string) string { return url.PathEscape(name) }

var (
	sendHeaders = []param{
		{headerPrefix + "NAME", "a header of the message, NAME in small letters"},
		{headerAll, "a JSON object of headers whose names or values HTTP would bend"},
		{"traceparent", "travels with the message, as tracestate does"},
	}
	keyHeader  = param{headerIdempotency, "a repeated request with the same key is the same message; at most 255 bytes"}
	leaseParam = param{"lease", "how long until the message must be acked or extended, in seconds or as 1m30s"}
	waitParam  = param{"wait", "how long to wait if there is nothing, in seconds or as 1m30s; 0: not at all"}
)

func (g *Gateway) routes() []route {
	return slices.Concat(g.queueRoutes(), g.channelRoutes(), g.serviceRoutes(), g.watchRoutes(), g.metricsRoutes(), pageRoutes())
}

func (g *Gateway) queueRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/push/{name}", verb: Push, about: "Put a message into a queue: one puller will get it.",
			query: []param{{"wait", "answer when the message is done, or after that time with fate pending (not with an Idempotency-Key)"}},
			headers: append(slices.Clone(sendHeaders), keyHeader, param{headerKey, "messages of one key are handled one after the other"},
				param{headerTTL, "the message expires after that time"}, param{headerDelay, "nobody gets it before that time has passed"}),
			body: "the message", answers: []reply{{200, "accepted: stream, seq and level (durable: it is on disk)", jsonKind}}, serve: g.servePush},
		{method: http.MethodPost, path: "/v1/pull/{name}", verb: Pull, about: "Take a message of a queue, or with Accept: application/json several.",
			query:   []param{{"max", "how many at most, with JSON; default 1"}, waitParam, leaseParam},
			headers: []param{{"Accept", "application/json for several; otherwise the answer's body is one message's"}},
			answers: []reply{{200, "the message; Peermesh-Ack says where to say that it is done", bytesKind}, {204, "there is none", ""}}, serve: g.servePull},
		{method: http.MethodPost, path: "/v1/pull/{name}/ack", verb: Pull, about: "Several messages were handled.",
			body: `{"leases": ["...", ...]}`, answers: ackAnswers(), serve: g.serveAckAll},
		{method: http.MethodPost, path: "/v1/pull/{name}/{lease}/ack", verb: Pull, about: "The message was handled: it will not come again.",
			answers: ackAnswers(), serve: g.serveAck(wire.Pull)},
		{method: http.MethodPost, path: "/v1/pull/{name}/{lease}/nack", verb: Pull, about: "Handling failed: it comes again, here or elsewhere, up to ten times.",
			query: []param{{"delay", "not before that time has passed"}}, body: "why, in plain text",
			answers: []reply{{204, "given back", ""}}, serve: g.serveNack(wire.Pull)},
		{method: http.MethodPost, path: "/v1/pull/{name}/{lease}/extend", verb: Pull, about: "Handling takes longer: the lease begins anew.",
			query: []param{leaseParam}, answers: []reply{{204, "extended", ""}}, serve: g.serveExtend(wire.Pull)},
		{method: http.MethodGet, path: "/v1/pull/{name}", verb: Pull, about: "Messages of a queue one after the other, as server-sent events or over a WebSocket.",
			query: []param{{"window", "how many may be unanswered; default 16"}, leaseParam}, headers: streamHeaders(),
			answers: streamAnswers(), serve: g.servePullStream},
	}
}

func ackAnswers() []reply {
	return []reply{{200, "done for good: on disk, if the message came at level durable", jsonKind},
		{202, "done, but it is not known yet whether that is on disk", jsonKind}, {410, "the lease is over", problemType}}
}

func streamHeaders() []param {
	return []param{{"Accept", "text/event-stream, for server-sent events"}, {"Upgrade", "websocket, for a WebSocket"}}
}

func streamAnswers() []reply {
	return []reply{{101, `a WebSocket: messages and gaps as JSON; the client says {"ack": LEASE}, {"nack": LEASE} or {"extend": LEASE}`, ""},
		{200, "events message and gap, their data as JSON", eventsKind}}
}

func (g *Gateway) channelRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/pub/{name}/{topic}", verb: Pub, about: "Publish a message: every subscription whose topics match gets it.",
			query:   []param{{"retain", "1: it is the last value of its topic (durable nodes only)"}},
			headers: append(slices.Clone(sendHeaders), keyHeader, param{headerTTL, "the message expires after that time"}),
			body:    "the message", answers: []reply{{200, "accepted: stream, seq and level", jsonKind}}, serve: g.servePub},
		{method: http.MethodGet, path: "/v1/sub/{name}", verb: Sub, about: "What is published, as server-sent events or over a WebSocket. Those of a durable subscription are leased and must be acked.",
			query: []param{{"topic", "repeat for several; * is one token, > the rest; default all"}, {"durable", "the name of a subscription that is kept while nobody listens"},
				{"from", "new, earliest or last: where a durable subscription begins"}, {"window", "how many may be unanswered; default 16"}, leaseParam},
			headers: streamHeaders(), answers: streamAnswers(), serve: g.serveSub},
		{method: http.MethodPost, path: "/v1/sub/{name}/{lease}/ack", verb: Sub, about: "A durable subscription's message was handled.",
			answers: ackAnswers(), serve: g.serveAck(wire.Sub)},
		{method: http.MethodPost, path: "/v1/sub/{name}/{lease}/nack", verb: Sub, about: "Handling failed: it comes again.",
			query: []param{{"delay", "not before that time has passed"}}, body: "why, in plain text",
			answers: []reply{{204, "given back", ""}}, serve: g.serveNack(wire.Sub)},
		{method: http.MethodPost, path: "/v1/sub/{name}/{lease}/extend", verb: Sub, about: "Handling takes longer: the lease begins anew.",
			query: []param{leaseParam}, answers: []reply{{204, "extended", ""}}, serve: g.serveExtend(wire.Sub)},
	}
}

func (g *Gateway) serviceRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/req/{name}", verb: Req, about: "Ask a service and wait for its answer. Header Peermesh-Outcome says how it ended: ok, error, failed or indeterminate.",
			query: []param{{"deadline", "how long the answer may take, in seconds or as 1m30s; default 30"}}, headers: sendHeaders, body: "the request",
			answers: []reply{{200, "the answer", bytesKind}, {502, "executed once, and the service answered with an error", problemType},
				{503, "certainly not executed", problemType}, {504, "it may have been executed", problemType}}, serve: g.serveReq},
		{method: http.MethodPost, path: "/v1/rep/{name}", verb: Rep, about: "Take the next request to a service. Peermesh-Reply says where to bring the answer.",
			query: []param{waitParam}, answers: []reply{{200, "the request", bytesKind}, {204, "there is none", ""}}, serve: g.serveNext},
		{method: http.MethodPost, path: "/v1/rep/{name}/{lease}", verb: Rep, about: "The answer to a request.", body: "the answer",
			answers: []reply{{204, "on its way", ""}, {410, "nobody waits for it any more", problemType}}, serve: g.serveReply(false)},
		{method: http.MethodPost, path: "/v1/rep/{name}/{lease}/error", verb: Rep, about: "The request failed.", body: "why, in plain text",
			query:   []param{{"outcome", "error: it was executed, the default; failed: nothing of it was; indeterminate: nobody knows"}},
			answers: []reply{{204, "on its way", ""}, {410, "nobody waits for it any more", problemType}}, serve: g.serveReply(true)},
		{method: http.MethodGet, path: "/v1/rep/{name}", verb: Rep, about: "Answer a service over a WebSocket.",
			query: []param{{"concurrency", "how many requests at a time; default 1, at most 64"}}, headers: []param{{"Upgrade", "websocket"}},
			answers: []reply{{101, `a WebSocket: requests as JSON; the client says {"id": ID, "text": ANSWER}, or "body" in base64, or "error" and perhaps "outcome"`, ""}}, serve: g.serveService},
	}
}

func (g *Gateway) watchRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/status", verb: See, about: "What the node sees and counts: peers, sockets, ledger, spool.",
			answers: []reply{{200, "the status", jsonKind}}, serve: g.serveStatus},
		{method: http.MethodGet, path: "/v1/dead", verb: See, about: "The queues with dead letters that the token may look into.",
			answers: []reply{{200, "a list", jsonKind}}, serve: g.serveDeadList},
		{method: http.MethodGet, path: "/v1/dead/{name}", verb: Dead, about: "The dead letters of a queue, with the first 4 KiB of their bodies.",
			query:   []param{{"from", "the number to begin with"}, {"max", "how many at most; default 20, at most 100"}},
			answers: []reply{{200, "a list", jsonKind}}, serve: g.serveDeadPeek},
		{method: http.MethodPost, path: "/v1/dead/{name}/{seq}/replay", verb: Dead, about: "Make a new message of a dead letter.",
			answers: []reply{{200, "the new message", jsonKind}}, serve: g.serveReplay},
		{method: http.MethodGet, path: "/livez", probe: true, about: "Whether the process works.", answers: []reply{{200, "it does", jsonKind}}, serve: g.serveLive},
		{method: http.MethodGet, path: "/readyz", probe: true, about: "Whether it takes messages: not while it shuts down or its disk has failed.",
			answers: []reply{{200, "it does", jsonKind}, {503, "it does not", problemType}}, serve: g.serveReady},
		{method: http.MethodGet, path: "/openapi.json", about: "This description.", answers: []reply{{200, "OpenAPI 3.1", jsonKind}}, serve: g.serveDoc},
	}
}

func (g *Gateway) metricsRoutes() []route {
	if g.config.Load().Metrics == nil {
		return nil
	}
	return []route{{method: http.MethodGet, path: "/metrics", verb: See, about: "What the node counts, for Prometheus.",
		answers: []reply{{200, "the metrics, in the format that is asked for", "text/plain"}}, serve: g.serveMetrics}}
}

// known refuses query parameters that the route does not have: they are misspelt.
func (r route) known(req *http.Request) *Problem {
	q, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return invalid("the query: %v", err)
	}
	for name, values := range q {
		if !slices.ContainsFunc(r.query, func(p param) bool { return p.name == name }) {
			return invalid("query parameter %q is not known here", name)
		}
		if len(values) > maxTopics || len(values) > 1 && name != "topic" {
			return invalid("query parameter %q: %s", name, fmt.Sprintf("%d times", len(values)))
		}
	}
	return nil
}

// maxTopics bounds the topics of a subscription.
const maxTopics = 64
