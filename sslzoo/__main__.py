from sslzoo.cli import main

main()
