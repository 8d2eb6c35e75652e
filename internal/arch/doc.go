// Package arch holds no code, only the test that keeps the shape of the project: packages stand on floors, and
// imports only go down.
//
//	4  cmd/peermesh, examples/*, internal/prove
//	3  node, and node/* around it
//	2  patterns, patterns/typed
//	1  socket
//	0  internal/*, spool, discovery
//
// So each floor can be read, and explained, without the one above. Packages of one floor do not know each
// other, save where the table of neighbours says so. Each foreign library has one home, the package that hides
// it from all others, so that replacing it is work in one place; what only tests need stays in tests.
//
// The test reads the import lines of every Go file for every platform, test files included. It asks neither the
// network nor the go command. A package, a foreign library or a top-level folder that it has not heard of is a
// failure too: whoever adds one says in rules_test.go where it belongs.
package arch
