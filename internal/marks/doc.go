// Package marks is a receiver's memory of one stream: what it holds, what it has
// done and not yet had confirmed, and which pipe it listens to. It is the receiving
// half of DELIVERY.md as a pure state machine, guarded by its owner's mutex.
//
//	           Arrive                Done                    Confirm
//	not here ----------> held -----------------> done mark ----------> forgotten
//	   ^                  |
//	   +------------------+  Return: given back, or never begun in time
//
// Done marks are kept until the sender confirms that it has durably settled them:
// never by age, never the last N. That is what makes a resend harmless however
// late it comes.
package marks
