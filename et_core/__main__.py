from et_core.cli.main import main

main()
