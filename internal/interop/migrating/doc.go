// Package migrating has tests only: what docs/migrating.md says of other libraries, and
// of this one beside them, is run here, each against a server in memory whose time is
// that of a synctest bubble. The cells of the tables on the page are what the runs say.
package migrating
