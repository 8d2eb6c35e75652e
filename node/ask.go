package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"peermesh/internal/insight"
	"peermesh/internal/wire"
	"peermesh/socket"
)

// What a node can ask another one, or itself.
const (
	askSee    = "see"    // a Sight
	askWhy    = "why"    // an Answer
	askEvents = "events" // News, without end
	askLogs   = "logs"   // likewise
)

const (
	// maxAnswering bounds the questions of peers that are answered at a time; one more is
	// refused.
	maxAnswering = 32
	// askWithin bounds an answer that has an end.
	askWithin = 3 * time.Second
	// maxAsked bounds the nodes that one question is passed on to, and askedAtOnce how many at a time.
	maxAsked    = 64
	askedAtOnce = 16
)

// Answer says why something is as it is.
type Answer = insight.Answer

// News is something that happened at a node: one of its fields is set.
type News struct {
	Event    *insight.Event    `json:"event,omitempty"`
	Decision *insight.Decision `json:"decision,omitempty"`
	Log      string            `json:"log,omitempty"` // a line
}

var (
	errNotAsked = errors.New("a node of another namespace answers no questions")
	errPrivate  = errors.New("that node answers no questions (Config.Private)")
	errBusy     = errors.New("it answers too many questions at the moment; ask again")
)

// SeePeer asks a linked node for what it sees, as its own Look would say. It blocks until
// the answer is there or ctx ends, at most three seconds.
func (n *Node) SeePeer(ctx context.Context, id ID, about string) (Sight, error) {
	body, err := n.askOnce(ctx, id, askSee, about)
	if err != nil {
		return Sight{}, err
	}
	return insight.ParseSight(body)
}

// WhyPeer has a linked node answer a question, as its own Why would. It blocks like SeePeer.
func (n *Node) WhyPeer(ctx context.Context, id ID, question string) (a Answer, err error) {
	body, err := n.askOnce(ctx, id, askWhy, question)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return Answer{}, fmt.Errorf("node: answer of %v: %w", id, err)
	}
	return a, nil
}

// Why says why a message, a queue, channel or service, or a node is as it is: question is
// QUEUE/SEQ, a name, or a node's name, id or address. It asks the linked nodes of its own
// namespace, at most 64, for what they see of it, and blocks until they have answered, or ctx
// ends, at most three seconds; who has not answered by then is left out.
func (n *Node) Why(ctx context.Context, question string) Answer {
	here := n.Look(question)
	return insight.Why(question, here, n.seeOthers(ctx, question))
}

// seeOthers asks every linked node at once.
func (n *Node) seeOthers(ctx context.Context, about string) []Sight {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	peers := n.Peers()
	slices.SortFunc(peers, func(a, b Peer) int { return a.ID.Compare(b.ID) })
	peers = slices.DeleteFunc(peers, func(p Peer) bool { return p.Namespace != n.Namespace() })
	peers = peers[:min(len(peers), maxAsked)]
	sights, errs := make([]Sight, len(peers)), make([]error, len(peers))
	turns := make(chan struct{}, askedAtOnce)
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			sights[i], errs[i] = n.SeePeer(ctx, p.ID, about)
		})
	}
	wg.Wait()
	var out []Sight
	for i, s := range sights {
		if errs[i] != nil {
			n.log.Debug("a peer was asked in vain", "peer", peers[i].ID, "err", clean(errs[i].Error()))
			continue
		}
		out = append(out, s)
	}
	return out
}

// askOnce asks a question that has one answer.
func (n *Node) askOnce(ctx context.Context, id ID, what, about string) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	for part, err := range n.ask(ctx, id, what, about) {
		if err != nil {
			return nil, err
		}
		return part, nil
	}
	return nil, fmt.Errorf("node: ask %v: no answer", id)
}

// ask opens a stream with a question and yields the answer's parts, or why there are no more.
func (n *Node) ask(ctx context.Context, id ID, what, about string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		l := n.linkTo(id)
		if l == nil {
			yield(nil, fmt.Errorf("node: no link to %v", id))
			return
		}
		if err := l.asks(ctx, what, about, func(body []byte) bool { return yield(body, nil) }); err != nil {
			yield(nil, fmt.Errorf("node: ask %v: %w", id, err))
		}
	}
}

func (l *link) asks(ctx context.Context, what, about string, take func([]byte) bool) error {
	st, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return l.because(ctx, err)
	}
	c := &stream{Stream: st, conn: l.conn}
	defer c.Close()
	release := context.AfterFunc(ctx, func() { c.Close() })
	defer release()
	if _, err := c.Write(wire.AppendAsk(nil, wire.Ask{Version: wire.AskVersion, What: what, About: about})); err != nil {
		return l.because(ctx, err)
	}
	for {
		t, payload, err := socket.ReadFrame(c, wire.MaxTold+toldOverhead)
		if err != nil {
			return l.because(ctx, err)
		}
		if t != wire.TypeTold {
			return fmt.Errorf("frame 0x%02x, expected TOLD", byte(t))
		}
		told, err := wire.ParseTold(payload)
		switch {
		case err != nil:
			return err
		case told.Refused:
			return errors.New(clean(string(told.Body)))
		case !take(told.Body) || !told.More:
			return nil
		}
	}
}

// toldOverhead is what a TOLD has beside its body, and some.
const toldOverhead = 16

// because says why a question got no answer.
func (l *link) because(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case l.ctx.Err() != nil:
		return context.Cause(l.ctx)
	case errors.Is(err, io.EOF):
		return errors.New("it does not answer questions: its version is older than this one's")
	}
	return explain(err)
}

// answer answers a peer's question, whose stream was opened with it.
func (n *Node) answer(ctx context.Context, who *link, payload []byte, c socket.Conn) {
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := wire.ParseAsk(payload)
	if err != nil {
		n.log.Debug("question refused", "peer", who.peer.ID, "err", clean(err.Error()))
		return
	}
	say := func(t wire.Told) error {
		_, err := c.Write(wire.AppendTold(nil, t))
		return err
	}
	err = n.mayAsk(who, a)
	if err == nil {
		select {
		case n.answering <- struct{}{}:
			defer func() { <-n.answering }()
		default:
			err = errBusy
		}
	}
	if err == nil {
		var gone sync.WaitGroup
		defer gone.Wait()
		defer c.Close()                     // ends the reading below
		gone.Go(func() { hear(c, cancel) }) // the asker says nothing more; it ends when that one goes
		err = n.tellAll(ctx, a, say)
	}
	if err != nil && ctx.Err() == nil {
		err = say(wire.Told{Refused: true, Body: []byte(wire.Clip(err.Error(), wire.MaxReason))})
	}
	if err == nil {
		err = c.CloseWrite()
	}
	if err != nil && ctx.Err() == nil {
		n.log.Debug("question not answered", "peer", who.peer.ID, "what", clean(a.What), "err", clean(err.Error()))
	}
}

// hear waits until the asker goes.
func hear(c socket.Conn, cancel context.CancelFunc) {
	var b [1]byte
	_, _ = c.Read(b[:]) // whatever comes is not expected
	cancel()
}

// mayAsk says why a peer gets no answer.
func (n *Node) mayAsk(who *link, a wire.Ask) error {
	switch {
	case n.cfg.Private:
		return errPrivate
	case who.foreign():
		return errNotAsked
	case a.Version > wire.AskVersion:
		return fmt.Errorf("asked in version %d, this node answers version %d", a.Version, wire.AskVersion)
	}
	return nil
}

// tellAll says all there is to say.
func (n *Node) tellAll(ctx context.Context, a wire.Ask, say func(wire.Told) error) error {
	switch a.What {
	case askSee:
		body, err := n.Look(a.About).Marshal(wire.MaxTold)
		if err != nil {
			return err
		}
		return say(wire.Told{Body: body})
	case askWhy:
		body, err := json.Marshal(n.Why(ctx, a.About))
		if err != nil {
			return err
		}
		return say(wire.Told{Body: body})
	case askEvents, askLogs:
		for news := range n.Follow(ctx, a.What == askLogs) {
			body, err := json.Marshal(news)
			if err != nil {
				return err
			}
			if err := say(wire.Told{More: true, Body: body}); err != nil {
				return err
			}
		}
		return ctx.Err()
	}
	return fmt.Errorf("this node does not know the question %q", clean(a.What))
}

// FollowPeer yields what happens at a linked node, as its own Follow would: until ctx ends, or
// with an error when the link does.
func (n *Node) FollowPeer(ctx context.Context, id ID, logs bool) iter.Seq2[News, error] {
	what := askEvents
	if logs {
		what = askLogs
	}
	return func(yield func(News, error) bool) {
		for body, err := range n.ask(ctx, id, what, "") {
			var news News
			if err == nil {
				err = json.Unmarshal(body, &news)
			}
			if !yield(news, err) || err != nil {
				return
			}
		}
	}
}

// Follow yields what happens at this node, the most recent of the past first: what becomes of
// peers and what is decided about names, or with logs the lines of its log. It ends when ctx does
// or the node closes. Whoever reads too slowly misses the oldest.
func (n *Node) Follow(ctx context.Context, logs bool) iter.Seq[News] {
	return func(yield func(News) bool) {
		events, decisions, lines := n.hub.listen(nil, !logs), n.memory.decided.listen(nil, !logs), n.memory.logs.listen(nil, logs)
		defer n.hub.leave(events)
		defer n.memory.decided.leave(decisions)
		defer n.memory.logs.leave(lines)
		for {
			now := time.Now()
			if logs {
				for _, line := range n.memory.logs.take(lines) {
					if !yield(News{Log: line}) {
						return
					}
				}
			} else if !n.yieldHappened(events, decisions, now, yield) {
				return
			}
			select {
			case <-events.ready:
			case <-decisions.ready:
			case <-lines.ready:
			case <-ctx.Done():
				return
			case <-n.done:
				return
			}
		}
	}
}

func (n *Node) yieldHappened(events *listener[PeerEvent], decisions *listener[insight.Decision], now time.Time, yield func(News) bool) bool {
	for _, e := range n.hub.take(events) {
		s := SightOfEvent(e, now)
		if !yield(News{Event: &s}) {
			return false
		}
	}
	for _, d := range n.memory.decided.take(decisions) {
		d.AgeMs = now.Sub(d.At).Milliseconds()
		if !yield(News{Decision: &d}) {
			return false
		}
	}
	return true
}

// FindPeer is the linked peer that who names by id, by the first eight or more letters of it, or
// by name. Of several with that name none is meant.
func (n *Node) FindPeer(who string) (p Peer, found int) {
	for _, o := range n.Peers() {
		if id := o.ID.String(); id == who || o.Name == who || len(who) >= 8 && strings.HasPrefix(id, who) {
			p = o
			found++
		}
	}
	return p, found
}
