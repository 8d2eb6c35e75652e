package insight

import (
	"fmt"
	"strconv"
	"strings"
)

// Answer says why something is as it is.
type Answer struct {
	Subject  string   `json:"subject"`
	Code     string   `json:"code"` // one word for the cause; "ok" when nothing is wrong
	Cause    string   `json:"cause"`
	Evidence []string `json:"evidence"`
	Cure     string   `json:"cure,omitempty"`
}

// The codes of answers beyond those of refusals.
const (
	CodeOK          = "ok"
	CodeNamespace   = "namespace"
	CodeClock       = "clock"
	CodeUnreachable = "unreachable"
	CodeMulticast   = "multicast"
	CodeNobody      = "nobody" // no puller, subscriber or replier
	CodeNoCredit    = "no-credit"
	CodeStuck       = "stuck"
	CodePaused      = "paused"
	CodePoison      = "poison"
	CodeDead        = "dead"
	CodeExpiredTTL  = "ttl"
	CodeQueueFull   = "queue-full"
	CodeDiskFull    = "disk-full"
	CodeDisk        = "disk"
	CodeMisspelt    = "misspelt"
	CodeDown        = "down"
	CodeDropped     = "dropped"
	CodeWaits       = "waits"
	CodeBusy        = "busy"
	CodeUnknown     = "unknown"
)

func (a *Answer) because(format string, args ...any) {
	a.Evidence = append(a.Evidence, fmt.Sprintf(format, args...))
}

// Cause and cure of a refusal, by its code. %s is who refuses or is refused.
var refusals = map[string]struct{ cause, cure string }{
	"mesh":        {"%s is a member of another mesh", "if the two nodes belong together, give both the same --mesh FILE"},
	"certificate": {"%s shows no certificate of this mesh", "look at --mesh on the other side, then restart that node"},
	"expired":     {"the certificate of %s has run out", "renew it by restarting that node with the mesh file, or on a machine that joined with peermesh cert renew; if it is fresh, set the clock of the host that refused"},
	CodeClock:     {"the clocks of this host and that of %s differ: the certificate is not valid yet here", "set both clocks right, best with NTP: timedatectl set-ntp true"},
	"identity":    {"another node than the expected one answers at the address of %s", "look who has that address now, and correct --peer"},
	"version":     {"%s speaks another version of the protocol", "update the older of the two"},
	"policy":      {"the policy denies it to %s", "ask for a rule that allows it, or use a name that the policy allows"},
	"duplicate":   {"another process runs with the identity of %s", "end one of the two; if the state directory was copied, give the copy a new one"},
	"incarnation": {"the state directory of %s is older than what others remember of it", "restart that node once; if it is a copy of another, end it"},
	"taken":       {"the durable subscription is another node's, which does not share it", "end the other subscriber, or use another --durable NAME"},
	"not-durable": {"a durable subscription wants a publisher that keeps messages, and %s keeps none", "give the publisher a state directory (--dir)"},
	"no-dir":      {"a request at level once-durable wants a replier with a state directory, and %s has none", "give the replier a state directory (--dir)"},
	"limit":       {"a limit of %s is reached", "open fewer streams to it"},
}

// refusalCode tells a clock that is wrong from a certificate that has run out: only a clock makes one begin later.
func refusalCode(code, reason string) string {
	if code == "expired" && strings.Contains(reason, "valid only from") {
		return CodeClock
	}
	return code
}

// refused fills in cause and cure of a refusal of whom; it reports false for a code it does not know.
func (a *Answer) refused(code, reason, whom string) bool {
	code = refusalCode(code, reason)
	r, known := refusals[code]
	if !known {
		return false
	}
	a.Code, a.Cure, a.Cause = code, r.cure, strings.ReplaceAll(r.cause, "%s", whom)
	if code == "policy" && reason != "" {
		a.Cause += ": " + reason // it names the rule
	}
	if reason != "" {
		a.because("%s", reason)
	}
	return true
}

// subject is what a question is about: a name, or a message of it.
type subject struct {
	name string
	seq  uint64 // 0: the name itself
}

// Split takes NAME/SEQ apart; ok is false for what has no such end. Whether a name with a slash or a message is meant
// depends on what names there are.
func Split(question string) (name string, seq uint64, ok bool) {
	i := strings.LastIndexByte(question, '/')
	if i < 1 {
		return "", 0, false
	}
	seq, err := strconv.ParseUint(question[i+1:], 10, 64)
	return question[:i], seq, err == nil && seq > 0
}

// Why answers a question, NAME/SEQ, NAME or NODE, from what this node and the others that could be asked see. The
// others saw it at about the same time; those that could not be asked are missing.
func Why(question string, here Sight, others []Sight) Answer {
	w := why{here: here, all: append([]Sight{here}, others...)}
	a := w.answer(question)
	a.Subject = question
	if len(a.Evidence) == 0 {
		a.because("%s at %s has %s and %s", here.Status.Name, here.Status.Addr, plural(len(here.Peers), "peer"), plural(len(here.Sockets), "socket"))
	}
	return a
}

// why is one question under way.
type why struct {
	here Sight
	all  []Sight // here first
}

func (w *why) answer(question string) Answer {
	switch name, seq, ok := Split(question); {
	case w.isName(question):
		return w.name(question)
	case ok && w.isName(name):
		return w.message(subject{name, seq})
	case w.isNode(question):
		return w.node(question)
	case ok:
		return w.unknown(name)
	}
	return w.unknown(question)
}

// isName reports whether anybody has a socket of that name, or had.
func (w *why) isName(name string) bool {
	for _, s := range w.all {
		for _, o := range s.Sockets {
			if o.Name == name {
				return true
			}
		}
		for _, p := range s.Peers {
			for _, o := range p.Offers {
				if o.Name == name {
					return true
				}
			}
		}
		for _, d := range s.Decisions {
			if d.Name == name {
				return true
			}
		}
	}
	return false
}

// names lists what is spoken of anywhere, with the node that has it.
func (w *why) names() map[string]string {
	out := map[string]string{}
	for _, s := range w.all {
		for _, o := range s.Sockets {
			out[o.Name] = s.Status.Name
		}
		for _, p := range s.Peers {
			for _, o := range p.Offers {
				out[o.Name] = p.Name
			}
		}
	}
	return out
}

// unknown is the answer to a question about something that nobody knows.
func (w *why) unknown(name string) Answer {
	var a Answer
	names := w.names()
	for _, s := range w.all {
		for _, p := range s.Peers {
			if _, taken := names[p.Name]; !taken {
				names[p.Name] = p.Name
			}
		}
	}
	if near := nearest(name, sortedKeys(names)); near != "" {
		a.Code = CodeMisspelt
		a.Cause = fmt.Sprintf("nobody has a socket, and no node is called, %q; %q is at node %s", name, near, names[near])
		a.Cure = fmt.Sprintf("correct the name on one side, or ask: peermesh why %s", near)
		return a
	}
	if len(w.here.Peers) == 0 {
		a = w.alone(fmt.Sprintf("nothing called %q is known", name))
		return a
	}
	a.Code = CodeUnknown
	a.Cause = fmt.Sprintf("nothing called %q is known here or at the %s that could be asked", name, plural(len(w.all)-1, "node"))
	a.Cure = "peermesh topology lists the nodes and what they offer"
	return a
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
