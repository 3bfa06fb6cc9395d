package storage_test

const childEnv = "KITT_STORAGE_CHILD"

func runChild() {}
