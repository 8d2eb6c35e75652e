package insight

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sending says who sends to a name, and what receives from it is called.
var sending = map[string]struct{ receiver, people, deed string }{
	"push": {"pull", "puller", "pulls from"},
	"pub":  {"sub", "subscriber", "subscribes to"},
	"req":  {"rep", "replier", "answers"},
}

// home is a sending socket and the node that has it.
type home struct {
	sight  *Sight
	socket *Socket
}

// homes lists the sending sockets of a name, those of this node first.
func (w *why) homes(name string) (out []home) {
	for i := range w.all {
		for j := range w.all[i].Sockets {
			if o := &w.all[i].Sockets[j]; o.Name == name && o.Ledger != nil {
				out = append(out, home{&w.all[i], o})
			}
		}
	}
	return out
}

// name says what holds up a queue, channel or service: the worst of what its senders meet.
func (w *why) name(name string) Answer {
	homes := w.homes(name)
	if len(homes) == 0 {
		return w.unsent(name)
	}
	var first *Answer
	for _, h := range homes {
		a := w.sender(h)
		if h.sight.Status.ID != w.here.Status.ID {
			a.Cause = "at node " + h.sight.Status.Name + ": " + a.Cause
		}
		if a.Code != CodeOK {
			return a
		}
		if first == nil {
			first = &a
		}
	}
	return *first
}

// unsent is the answer about a name that is only received from: nobody sends, or not here.
func (w *why) unsent(name string) Answer {
	var a Answer
	if w.denied(&a, name) {
		return a
	}
	others := w.names()
	delete(others, name)
	sent := map[string]string{}
	for _, s := range w.all {
		for _, o := range s.Sockets {
			if o.Ledger != nil && o.Name != name {
				sent[o.Name] = s.Status.Name
			}
		}
	}
	if near := nearest(name, sortedKeys(sent)); near != "" {
		a.Code = CodeMisspelt
		a.Cause = fmt.Sprintf("nobody sends to %q; node %s sends to %q", name, sent[near], near)
		a.Cure = "correct the name on one side"
		return a
	}
	if len(w.here.Peers) == 0 {
		return w.alone(fmt.Sprintf("nobody sends to %q", name))
	}
	a.Code = CodeNobody
	a.Cause = fmt.Sprintf("nobody that could be asked sends to %q", name)
	a.because("%s could be asked", plural(len(w.all)-1, "other node"))
	a.Cure = "start the sender, with the same --mesh and --namespace"
	return a
}

// sender says what holds up one sending socket.
func (w *why) sender(h home) Answer {
	a := w.flow(h)
	l := h.socket.Ledger
	a.because("%s %s at %s: %s", h.socket.Kind, h.socket.Name, h.sight.Status.Name, l.text())
	full, refused := h.full(), w.refusedSends(h)
	switch {
	case h.sight.Status.Disk != nil && h.sight.Status.Disk.Failed != "":
		a.Code, a.Cause = CodeDisk, "the state directory can no longer be written: "+h.sight.Status.Disk.Failed
		a.Cure = "look at the disk (peermesh doctor), then restart the node: it verifies what is there"
	case refused != nil && (refused.Code == "spool_full" || refused.Code == "disk_full"):
		a.because("%v ago a Send was refused: %s", ms(refused.AgeMs), refused.Text)
		a.Cause = fmt.Sprintf("there is no room on disk for %q: a Send is refused%s", h.socket.Name, but(a))
		a.Code, a.Cure = CodeDiskFull, "free disk space or raise the quota; what waits is listed by peermesh spool ls"+then(a)
	case full || refused != nil && refused.Code == "queue_full":
		if refused != nil {
			a.because("%v ago a Send was refused: %s", ms(refused.AgeMs), refused.Text)
		}
		a.Cause = fmt.Sprintf("the queue of %q is full: %d of %d messages, %d bytes%s", h.socket.Name, l.Queued+l.Leased-h.socket.OnDisk, h.socket.Bound,
			h.socket.Bytes, but(a))
		a.Cure = "add receivers, or raise the bound (Queue), or choose another overflow policy" + then(a)
		a.Code = CodeQueueFull
	}
	return a
}

// but adds the cause below a symptom.
func but(a Answer) string {
	if a.Code == CodeOK || a.Code == CodeBusy {
		return ""
	}
	return "; " + a.Cause
}

func then(a Answer) string {
	if a.Cure == "" {
		return ""
	}
	return "; " + a.Cure
}

// full reports whether the queue in memory is at its bound.
func (h home) full() bool {
	l := h.socket.Ledger
	owed := l.Queued + l.Leased
	if h.socket.Bound == 0 || owed <= h.socket.OnDisk {
		return false
	}
	return owed-h.socket.OnDisk >= uint64(h.socket.Bound) || h.socket.BoundBytes > 0 && h.socket.Bytes >= uint64(h.socket.BoundBytes)
}

// lately is how long a decision counts as a reason for what is now.
const lately = 10 * 60 * 1000

// refusedSends is the newest refusal of a Send.
func (w *why) refusedSends(h home) *Decision {
	for _, d := range slices.Backward(h.sight.Decisions) {
		if d.Name == h.socket.Name && d.What == Refused && d.AgeMs < lately {
			return &d
		}
	}
	return nil
}

// text is a ledger in words.
func (l *Ledger) text() string {
	parts := []string{fmt.Sprintf("%d accepted", l.Accepted)}
	add := func(n uint64, what string) {
		if n > 0 {
			parts = append(parts, strconv.FormatUint(n, 10)+" "+what)
		}
	}
	add(l.Carried, "carried over")
	add(l.Queued, "queued")
	add(l.Leased, "leased")
	add(l.Done, "done")
	add(l.Dead, "dead")
	add(l.Expired, "expired")
	for _, reason := range sortedKeys(l.Dropped) {
		add(l.Dropped[reason], "dropped ("+reason+")")
	}
	return strings.Join(parts, ", ")
}

// flow says why what a socket owes does not move, or that it does.
func (w *why) flow(h home) Answer {
	l := h.socket.Ledger
	attached := 0
	for _, c := range h.socket.Consumers {
		if c.Attached {
			attached++
		}
	}
	switch {
	case attached == 0:
		if l.Queued+l.Leased == 0 && (l.Expired > 0 || l.Dead > 0) {
			if a, ok := w.fates(h); ok {
				return a
			}
		}
		return w.nobody(h)
	case l.Queued+l.Leased > 0:
		if a := w.received(h); a.Code != CodeOK {
			return a
		}
	}
	if a, ok := w.fates(h); ok {
		return a
	}
	a := Answer{Code: CodeOK}
	a.Cause = fmt.Sprintf("nothing holds up %q: %s attached", h.socket.Name, plural(attached, sending[h.socket.Kind].people))
	if l.Queued > 0 {
		a.Cause += fmt.Sprintf(", and %s for their turn", count(l.Queued, "message waits", "messages wait"))
	}
	return a
}

// received says what the attached receivers do with what they have.
func (w *why) received(h home) Answer {
	var a Answer
	l, people := h.socket.Ledger, sending[h.socket.Kind].people
	paused, room := 0, false
	var holder *Consumer
	for i, c := range h.socket.Consumers {
		switch {
		case !c.Attached:
			continue
		case c.Paused:
			paused++
			continue
		case c.Room > 0:
			room = true
		}
		if holder == nil || c.Leased > holder.Leased {
			holder = &h.socket.Consumers[i]
		}
	}
	if nacked := w.newest(h, Nacked); nacked != nil && nacked.AgeMs < 60_000 {
		return w.poison(h, nacked)
	}
	if holder == nil {
		a.Code = CodePaused
		a.Cause = fmt.Sprintf("every %s of %q that is attached is paused (%d)", people, h.socket.Name, paused)
		a.Cure = "resume one (Resume), or start another " + people
		return a
	}
	if at := w.stuck(h, holder); at != nil {
		return *at
	}
	if l.Queued > 0 && !room {
		a.because("%s has %d in hand and takes no more", holder.Name, holder.Leased)
		w.hands(&a, h, holder)
		return a
	}
	return Answer{Code: CodeOK}
}

// receiver is the receiving socket behind a consumer, if its node could be asked.
func (w *why) receiver(h home, c *Consumer) *Socket {
	for i := range w.all {
		if w.all[i].Status.ID != c.ID {
			continue
		}
		for j := range w.all[i].Sockets {
			o := &w.all[i].Sockets[j]
			if o.Name == h.socket.Name && o.Kind == sending[h.socket.Kind].receiver && o.Received != nil && (c.Label == "" || o.Label == c.Label) {
				return o
			}
		}
	}
	return nil
}

// slow is how long a handler may be at it before it is worth a word.
const slow = 3000

// stuck is the cause when a receiver has begun messages and finishes none.
func (w *why) stuck(h home, c *Consumer) *Answer {
	r := w.receiver(h, c)
	if r == nil || r.Received.Begun == 0 || r.StillMs < slow {
		return nil
	}
	a := Answer{Code: CodeStuck, Cause: fmt.Sprintf("the handler of %s is stuck: it has begun %s of %q and finished none for %v", c.Name,
		plural(r.Received.Begun, "message"), h.socket.Name, ms(r.StillMs))}
	a.because("%s at %s: %d delivered, %d done, %d begun, %d queued", r.Kind, c.Name, r.Received.Delivered, r.Received.Done, r.Received.Begun, r.Received.Queued)
	a.Cure = fmt.Sprintf("look at what the program of %s does (kill -QUIT prints its goroutines), and set a HandlerTimeout; restarting it gives its messages to others", c.Name)
	return &a
}

// hands says why a receiver without room has none.
func (w *why) hands(a *Answer, h home, c *Consumer) {
	a.Code = CodeNoCredit
	a.Cause = fmt.Sprintf("%s, the only one or as full as all others, has all of %q in hand that its prefetch allows (%d) and has not answered", c.Name,
		h.socket.Name, c.Leased)
	a.Cure = fmt.Sprintf("make %s acknowledge what it receives, raise its prefetch, or start another %s", c.Name, sending[h.socket.Kind].people)
	r := w.receiver(h, c)
	if r == nil {
		return
	}
	a.because("%s at %s: %d delivered, %d done, %d begun, %d queued", r.Kind, c.Name, r.Received.Delivered, r.Received.Done, r.Received.Begun, r.Received.Queued)
	switch {
	case r.Received.Begun == 0 && r.Received.Queued > 0:
		a.Cause = fmt.Sprintf("%s has %s of %q waiting, all that its prefetch allows, and its program receives none", c.Name,
			plural(r.Received.Queued, "message"), h.socket.Name)
		a.Cure = fmt.Sprintf("look why the program of %s does not call Recv, or close that socket so that others get its messages", c.Name)
	case r.StillMs == 0:
		a.Code = CodeBusy
		a.Cause = fmt.Sprintf("%s works on %q as fast as it can: it has %d in hand, all that its prefetch allows", c.Name, h.socket.Name, c.Leased)
		a.Cure = "start another " + sending[h.socket.Kind].people + ", or let more handlers run at once"
	}
}

// newest is the newest decision of a kind about a socket's name, at its node.
func (w *why) newest(h home, what string) *Decision {
	for _, d := range slices.Backward(h.sight.Decisions) {
		if d.Name == h.socket.Name && d.What == what {
			return &d
		}
	}
	return nil
}

// poison is the cause when a handler fails on a message again and again.
func (w *why) poison(h home, d *Decision) Answer {
	a := Answer{Code: CodePoison, Cause: fmt.Sprintf("the handler of %s gives message %d of %q back: %s", w.nameOf(d.By), d.Seq, h.socket.Name, quoteOr(d.Text))}
	a.because("%v ago, for the %s time lately, by %s: %s", ms(d.AgeMs), ordinal(d.Count), w.nameOf(d.By), quoteOr(d.Text))
	a.Cure = "correct the handler; it is tried again with growing pauses, and after its last try it is dead"
	return a
}

func ordinal(n uint64) string {
	switch {
	case n%100/10 == 1:
	case n%10 == 1:
		return strconv.FormatUint(n, 10) + "st"
	case n%10 == 2:
		return strconv.FormatUint(n, 10) + "nd"
	case n%10 == 3:
		return strconv.FormatUint(n, 10) + "rd"
	}
	return strconv.FormatUint(n, 10) + "th"
}

func quoteOr(text string) string {
	if text == "" {
		return "it said no reason"
	}
	return strconv.Quote(text)
}

// nameOf is what the node of an id is called, as far as anybody knows.
func (w *why) nameOf(id string) string {
	for _, s := range w.all {
		if s.Status.ID == id {
			return s.Status.Name
		}
		for _, p := range s.Peers {
			if p.ID == id {
				return p.Name
			}
		}
	}
	switch {
	case id == "":
		return "a receiver"
	case len(id) > shortest:
		return "node " + id[:shortest]
	}
	return "node " + id
}

// fates says what became of messages that were not handled, of late.
func (w *why) fates(h home) (Answer, bool) {
	l := h.socket.Ledger
	if d := w.newest(h, Dead); l.Dead > 0 && d != nil {
		a := w.poison(h, d)
		a.Code = CodeDead
		a.Cause = fmt.Sprintf("%s of %q dead, the last one %d: %s fails on it: %s", count(l.Dead, "message is", "messages are"), h.socket.Name, d.Seq,
			w.nameOf(d.By), quoteOr(d.Text))
		a.Cure = deadCure(h.socket.Name, h.sight)
		return a, true
	}
	if d := w.newest(h, Expired); l.Expired > 0 && d != nil {
		a := Answer{Code: CodeExpiredTTL, Cause: fmt.Sprintf("the TTL of %s of %q ran out before anybody had handled it, the last one %d", plural(int(l.Expired), "message"),
			h.socket.Name, d.Seq)}
		a.because("%v ago message %d expired, and no receiver can get it any more", ms(d.AgeMs), d.Seq)
		a.Cure = "give them a longer TTL, or more receivers"
		return a, true
	}
	return Answer{}, false
}

// deadCure is what helps dead letters, where they are kept.
func deadCure(name string, at *Sight) string {
	if at.Status.Disk == nil {
		return "correct the handler and send it again; a sender with a state directory (--dir) keeps dead letters"
	}
	return fmt.Sprintf("correct the handler, then: peermesh dlq peek %s, and dlq replay %s", name, name)
}

func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatUint(n, 10) + " " + many
}

// denied is the cause when policy keeps somebody from a name, at whichever end it was noted.
func (w *why) denied(a *Answer, name string) bool {
	for _, s := range w.all {
		for _, d := range slices.Backward(s.Decisions) {
			if d.Name == name && d.What == Denied && d.AgeMs < lately && a.refused(d.Code, d.Text, w.nameOf(d.By)) {
				a.because("noted by %s %v ago", s.Status.Name, ms(d.AgeMs))
				return true
			}
		}
		quoted := strconv.Quote(name)
		for _, e := range slices.Backward(s.Events) {
			if e.State == "refused" && e.AgeMs < lately && strings.Contains(e.Reason, quoted) && a.refused(e.Code, e.Reason, nameOr(e.Name, "a peer")) {
				return true
			}
		}
	}
	return false
}

// nobody says why no receiver is attached.
func (w *why) nobody(h home) Answer {
	var a Answer
	name, kind := h.socket.Name, sending[h.socket.Kind]
	at := why{here: *h.sight, all: w.all}
	if w.denied(&a, name) {
		return a
	}
	none := fmt.Sprintf("no %s of %q is attached", kind.people, name)
	offered := ""
	for _, p := range h.sight.Peers {
		if !slices.Contains(p.Offers, Offer{kind.receiver, name}) {
			continue
		}
		if p.Namespace != h.sight.Status.Namespace {
			a.Code = CodeNamespace
			a.Cause = fmt.Sprintf("%s: %s %s it, but in namespace %q, and %s is in %q", none, p.Name, kind.deed, p.Namespace, h.sight.Status.Name,
				h.sight.Status.Namespace)
			a.Cure = fmt.Sprintf("start one of the two with --namespace of the other: %s or %s", p.Namespace, h.sight.Status.Namespace)
			return a
		}
		offered = p.Name
	}
	if offered != "" {
		a.Code, a.Cause = CodeWaits, fmt.Sprintf("%s: %s offers it, and is not attached yet", none, offered)
		a.Cure = "ask again in a few seconds; if it stays so, look at the log of " + offered
		return a
	}
	if near, whose := at.similar(name, kind.receiver); near != "" {
		a.Code = CodeMisspelt
		a.Cause = fmt.Sprintf("%s, but %s %s %q", none, whose, kind.deed, near)
		a.Cure = "correct the name on one side"
		return a
	}
	for _, c := range h.socket.Consumers {
		if c.ID != "" && at.unlinked(&a, c.ID) {
			who := w.gone(c.ID)
			a.Cause = fmt.Sprintf("%s: %s", none, strings.ReplaceAll(a.Cause, c.ID, who))
			a.because("%s was attached before", who)
			return a
		}
	}
	if at.refusedSelf(&a) {
		a.Cause = none + ": " + a.Cause
		return a
	}
	if len(h.sight.Peers) == 0 {
		return at.alone(none)
	}
	a.Code, a.Cause = CodeNobody, fmt.Sprintf("%s: of %s none %s it", none, plural(len(h.sight.Peers), "linked node"), kind.deed)
	for _, e := range slices.Backward(h.sight.Events) {
		var more Answer
		if e.State == "refused" && e.AgeMs < lately && more.refused(e.Code, e.Reason, nameOr(e.Name, e.Addr)) {
			a.because("a further node was refused (%s): %s", e.Code, e.Reason)
			break
		}
	}
	a.Cure = fmt.Sprintf("start one: peermesh %s %s", kind.receiver, name)
	return a
}

// gone is what a node that is away was called.
func (w *why) gone(id string) string {
	for _, s := range w.all {
		for _, e := range slices.Backward(s.Events) {
			if e.ID == id && e.Name != "" {
				return e.Name
			}
		}
	}
	return w.nameOf(id)
}

// similar is a name like this one that peers receive from, and the node that does.
func (w *why) similar(name, kind string) (near, whose string) {
	offered := map[string]string{}
	for _, p := range w.here.Peers {
		for _, o := range p.Offers {
			if o.Kind == kind && p.Namespace == w.here.Status.Namespace {
				offered[o.Name] = p.Name
			}
		}
	}
	near = nearest(name, sortedKeys(offered))
	return near, offered[near]
}
