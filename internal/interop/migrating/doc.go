// Package migrating runs the statements of docs/migrating.md about other libraries and
// about this one. Each run uses a server in memory, in a synctest bubble. The cells of
// the tables on the page are the results of the runs.
package migrating
