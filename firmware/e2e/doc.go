// Package e2e tests the product as it is shipped: it builds the program, runs a site of four
// processes with it, feeds a real trace, and kills, stops and deletes boxes meanwhile. There is
// nothing here but tests; go test -short leaves them out.
package e2e
