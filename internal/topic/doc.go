// Package topic decides which subscriptions a published topic reaches.
//
// A topic is tokens separated by dots, "zurich.temp". A subscription is a [Pattern] of one of two kinds:
//
//	zurich.temp      tokens   exactly this topic; upper and lower case differ
//	*.temp           tokens   * stands for exactly one whole token
//	basel.>          tokens   > comes last and stands for one or more tokens: not for the topic "basel"
//	prefix:zur       prefix   every topic that begins with these bytes, dots or not, as ZeroMQ subscribes
//	prefix:          prefix   every topic
//
// No pattern at all means ">", see [ParseAll].
//
// # What a topic may be
//
// [Check] holds a topic to these rules where it enters the mesh; [Parse] holds a pattern of tokens to the same rules, so
// that there is no topic nobody can subscribe to and no pattern that waits for a topic nobody can publish:
//
//   - 1 to [MaxBytes] bytes of UTF-8 without control characters, in 1 to [MaxTokens] tokens, none of them empty
//   - "*" and ">" are never part of a longer token, and never in a topic
//   - nothing begins with "prefix:", which is how a pattern says that it is a raw prefix
//
// # Matching against many
//
// A [Trie] holds (pattern, value) pairs and finds the values whose patterns match a topic. It is two radix trees, one of
// token patterns and one of prefixes, in which a node holds the bytes that the patterns below it share:
//
//	""
//	 +-- "*.temp"     (1)          the topic zurich.temp finds 1 through *,
//	 +-- "basel.>"    (5)          does not look at 5,
//	 +-- "zurich."
//	      +-- ">"     (3)          and finds 3
//	      +-- "temp"  (2, 4)       and 2 and 4
//
// A lookup walks only nodes whose bytes agree with the topic so far, so subscriptions that differ from it early cost
// nothing, however many there are. What a lookup can cost at worst is all patterns that agree for a while and differ
// late: with "*" and a literal beside each other at each of k levels that is 2^k nodes, but never more than there are
// patterns, times two. Whoever takes subscriptions from the network bounds their number, see [Trie.Len].
//
// The package has no goroutines, clock or I/O. Functions and [Pattern] are safe for concurrent use, a Trie is not.
package topic
