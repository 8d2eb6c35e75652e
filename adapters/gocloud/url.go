package gocloud

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"

	"gocloud.dev/pubsub"
)

// Scheme is that of the URLs URLOpener opens.
const Scheme = "peermesh"

// URLOpener opens topics and subscriptions of a node:
//
//	peermesh://pub/CHANNEL     a topic; parameters: level, keep=N, expect=NAME (repeatable)
//	peermesh://push/QUEUE      a topic; parameters: level
//	peermesh://sub/CHANNEL     a subscription; durable=NAME, from=new|earliest, topic=PATTERN (repeatable)
//	peermesh://pull/QUEUE      a subscription
//
// level is best-effort, memory or durable. Each parameter is the option of package patterns of
// about that name; expect makes a durable subscription before it first attaches. Unknown ones are
// errors. A URL of a topic may be opened several times, and gives the same socket; that stays
// open until the node closes, so what it owes is delivered. A queue can be pulled once by a node,
// and so can a durable subscription of one name: share the Subscription, it is safe for
// concurrent use.
//
// Nothing is registered with pubsub.DefaultURLMux; make one of your own, or do it there:
//
//	opener := &gocloud.URLOpener{Node: n}
//	mux.RegisterTopic(gocloud.Scheme, opener)
//	mux.RegisterSubscription(gocloud.Scheme, opener)
//
// Safe for concurrent use.
type URLOpener struct {
	Node *node.Node

	mu     sync.Mutex
	topics map[string]*topic // by URL; their sockets are open
}

var (
	_ pubsub.TopicURLOpener        = (*URLOpener)(nil)
	_ pubsub.SubscriptionURLOpener = (*URLOpener)(nil)
)

// OpenTopicURL opens a URL of kind pub or push.
func (o *URLOpener) OpenTopicURL(_ context.Context, u *url.URL) (*pubsub.Topic, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := u.Host + u.Path + "?" + u.Query().Encode()
	if t := o.topics[at]; t != nil {
		return pubsub.NewTopic(t, &sendBatches), nil
	}
	t, err := o.openTopic(u)
	if err != nil {
		return nil, fmt.Errorf("gocloud: open topic %v: %w", u, err)
	}
	if o.topics == nil {
		o.topics = map[string]*topic{}
	}
	o.topics[at] = t
	return pubsub.NewTopic(t, &sendBatches), nil
}

func (o *URLOpener) openTopic(u *url.URL) (*topic, error) {
	name := strings.TrimPrefix(u.Path, "/")
	switch u.Host {
	case "push":
		opts, err := options(u, "level")
		if err != nil {
			return nil, err
		}
		p, err := o.Node.Push(name, opts...)
		if err != nil {
			return nil, err
		}
		return pushTopic(p), nil
	case "pub":
		opts, err := options(u, "level", "keep", "expect")
		if err != nil {
			return nil, err
		}
		p, err := o.Node.Pub(name, opts...)
		if err != nil {
			return nil, err
		}
		for _, who := range u.Query()["expect"] {
			if err := p.Expect(who); err != nil {
				return nil, errors.Join(err, p.Close())
			}
		}
		return pubTopic(p), nil
	}
	return nil, fmt.Errorf("%q is not a kind of topic; pub and push are", u.Host)
}

// OpenSubscriptionURL opens a URL of kind sub or pull.
func (o *URLOpener) OpenSubscriptionURL(_ context.Context, u *url.URL) (*pubsub.Subscription, error) {
	s, err := o.openSubscription(u)
	if err != nil {
		return nil, fmt.Errorf("gocloud: open subscription %v: %w", u, err)
	}
	return s, nil
}

func (o *URLOpener) openSubscription(u *url.URL) (*pubsub.Subscription, error) {
	name := strings.TrimPrefix(u.Path, "/")
	switch u.Host {
	case "pull":
		if _, err := options(u); err != nil {
			return nil, err
		}
		p, err := o.Node.Pull(name)
		if err != nil {
			return nil, err
		}
		return PullSubscription(p), nil
	case "sub":
		opts, err := options(u, "durable", "from", "topic")
		if err != nil {
			return nil, err
		}
		s, err := o.Node.Sub(name, opts...)
		if err != nil {
			return nil, err
		}
		return SubSubscription(s), nil
	}
	return nil, fmt.Errorf("%q is not a kind of subscription; sub and pull are", u.Host)
}

// options makes options of a URL's parameters, of which only the known ones may be there.
func options(u *url.URL, known ...string) (opts []patterns.Option, err error) {
	given, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, err
	}
	for _, name := range known {
		values, there := given[name]
		delete(given, name)
		if !there {
			continue
		}
		if len(values) > 1 && name != "topic" && name != "expect" {
			return nil, fmt.Errorf("parameter %q is given %d times", name, len(values))
		}
		opt, err := option(name, values)
		if err != nil {
			return nil, err
		}
		opts = append(opts, opt...)
	}
	for name := range given {
		return nil, fmt.Errorf("parameter %q is not known here", name)
	}
	return opts, nil
}

var (
	levels    = map[string]socket.Level{"best-effort": socket.BestEffort, "memory": socket.Memory, "durable": socket.Durable}
	positions = map[string]patterns.Position{"new": patterns.New, "earliest": patterns.Earliest}
)

// option makes an option of a parameter; of expect none.
func option(name string, values []string) ([]patterns.Option, error) {
	value := values[0]
	switch name {
	case "level":
		if level, ok := levels[value]; ok {
			return []patterns.Option{patterns.Durability(level)}, nil
		}
	case "keep":
		if n, err := strconv.Atoi(value); err == nil {
			return []patterns.Option{patterns.Keep(n)}, nil
		}
	case "durable":
		return []patterns.Option{patterns.DurableName(value)}, nil
	case "from":
		if p, ok := positions[value]; ok {
			return []patterns.Option{patterns.From(p)}, nil
		}
	case "topic":
		return []patterns.Option{patterns.Topics(values...)}, nil
	case "expect":
		return nil, nil
	}
	return nil, fmt.Errorf("parameter %q: %q is not one of its values", name, value)
}
